interface Env {
  VISITS: KVNamespace;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const page = new URL(request.url).pathname;
    const visits = Number((await env.VISITS.get(page)) ?? 0) + 1;
    // KV is for what is read more often than it is written: two visits at the same time
    // may count as one. counts that must be right belong into a Durable Object.
    await env.VISITS.put(page, String(visits), { metadata: { last: new Date().toISOString() } });
    return Response.json({ page, visits });
  },
};
