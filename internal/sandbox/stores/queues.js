// The runtime's own Queues, with the queue named by a header that we inject.
import queues from "./bundled.js";
export { QueueShard } from "./bundled.js";

export default {
  fetch(request, env) {
    return queues.fetch(request, env, { props: { queue: request.headers.get("x-hourglass-id") } });
  },
};
