// The runtime's own KV, with the namespace named by a header that the binding injects.
import kv from "./bundled.js";
export { KVNamespace } from "./bundled.js";

export default {
  fetch(request, env) {
    return kv.fetch(request, env, { props: { namespace: request.headers.get("x-hourglass-id") } });
  },
};
