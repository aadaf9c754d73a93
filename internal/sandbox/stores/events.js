// Calls queue() and scheduled() of the account's Workers, which nothing outside of the
// runtime can. It runs beside them; they can neither see nor call it.
function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function decode({ id, timestamp, attempts, body, bytes: raw, v8 }) {
  const m = { id, timestamp: new Date(timestamp), attempts };
  if (v8 !== undefined) m.serializedBody = bytes(v8);
  else m.body = raw === undefined ? body : bytes(raw).buffer;
  return m;
}

export default {
  async fetch(request, env) {
    const { worker, queue, messages, metadata, cron, time } = await request.json();
    const target = env[worker];
    if (target === undefined) return new Response("no such Worker", { status: 404 });
    if (queue === undefined) return Response.json(await target.scheduled({ scheduledTime: new Date(time), cron }));
    const r = await target.queue(queue, messages.map(decode), metadata);
    return Response.json({
      outcome: r.outcome, ackAll: r.ackAll, retryBatch: r.retryBatch,
      explicitAcks: r.explicitAcks, retryMessages: r.retryMessages,
    });
  },
};
