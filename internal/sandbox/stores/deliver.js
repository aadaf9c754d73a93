// Takes a batch from the Queues Worker, which believes that this is the consumer, and
// hands it out of the process: the consumer runs in another one.
import { WorkerEntrypoint } from "cloudflare:workers";

function base64(bytes) {
  let s = "";
  for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(s);
}

function encode({ id, timestamp, attempts, body, serializedBody }) {
  const m = { id, timestamp: timestamp.getTime(), attempts };
  if (serializedBody !== undefined) m.v8 = base64(new Uint8Array(serializedBody));
  else if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) m.bytes = base64(new Uint8Array(body));
  else m.body = body;
  return m;
}

export class Consumer extends WorkerEntrypoint {
  async queue(queue, messages, metadata) {
    const r = await this.env.SINK.fetch("http://sink/", { method: "POST", body: JSON.stringify({ queue, messages: messages.map(encode), metadata }) });
    if (!r.ok) throw new Error(await r.text());
    const done = await r.json();
    return { ...done, explicitAcks: done.explicitAcks ?? [], retryMessages: done.retryMessages ?? [] };
  }
}

export default {};
