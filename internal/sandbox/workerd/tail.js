// Forwards what the runtime tells it to a socket of ours. It runs in the runtime, apart
// from the users' Workers, which can neither see nor call it. One item a request, in order.
const MAX_LOGS = 256 * 1024; // characters of console output an invocation, as on Cloudflare
const MAX_TEXT = 16 * 1024; // characters of an exception's message, or of its stack
const OURS = ["x-hourglass-proto", "x-hourglass-cf"];
const OTHER_EVENTS = ["cron", "scheduledTime", "queue", "batchSize", "rpcMethod", "mailFrom", "rcptTo", "rawSize", "consumedEvents"];

function text(s) {
  s = String(s ?? "");
  return s.length > MAX_TEXT ? s.slice(0, MAX_TEXT) + "…" : s;
}

// The runtime writes module names as URLs at newer compatibility dates only.
function stack(s) {
  return s === undefined ? undefined : text(String(s).replaceAll("file:///bundle/", ""));
}

function message(m) {
  try {
    return JSON.stringify(m, (_, v) => (typeof v === "bigint" ? String(v) + "n" : v)) ?? "null";
  } catch {
    return JSON.stringify([String(m)]);
  }
}

function logs(e) {
  const out = [];
  let size = 0;
  for (const l of e.logs) {
    const m = message(l.message);
    if ((size += m.length) > MAX_LOGS) return { out, cut: true };
    out.push({ message: JSON.parse(m), level: l.level, timestamp: l.timestamp });
  }
  return { out, cut: false };
}

function what(ev) {
  if (!ev) return null;
  if (ev.request) {
    const headers = { ...ev.request.headers };
    for (const h of OURS) delete headers[h];
    const out = { request: { url: ev.request.url, method: ev.request.method, headers, cf: ev.request.cf ?? {} } };
    if (ev.response) out.response = { status: ev.response.status };
    return out;
  }
  const out = {};
  for (const k of OTHER_EVENTS) if (ev[k] !== undefined) out[k] = ev[k];
  return out;
}

export default {
  async tail(events, env, ctx) {
    for (const e of events) {
      const l = logs(e);
      const item = {
        outcome: e.outcome,
        exceptions: e.exceptions.map((x) => ({ name: x.name, message: text(x.message), stack: stack(x.stack), timestamp: x.timestamp })),
        logs: l.out,
        eventTimestamp: e.eventTimestamp,
        event: what(e.event),
        entrypoint: e.entrypoint,
        executionModel: e.executionModel,
        truncated: e.truncated || l.cut,
        cpuTime: e.cpuTime,
        wallTime: e.wallTime,
        diagnosticsChannelEvents: [],
      };
      await env.SINK.fetch("http://sink/" + ctx.props.worker, { method: "POST", body: JSON.stringify(item) });
    }
  },
};
