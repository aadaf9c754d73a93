interface Env {
  JOBS: Queue<Job>;
  RESULTS: KVNamespace;
}

interface Job {
  id: string;
  text: string;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const [, kind, id] = new URL(request.url).pathname.split("/");
    if (kind !== "jobs") return new Response("POST /jobs, GET /jobs/<id>\n", { status: 404 });
    if (request.method === "POST") {
      const job = { id: crypto.randomUUID(), text: await request.text() };
      await env.JOBS.send(job);
      return Response.json({ id: job.id }, { status: 202 });
    }
    const result = id ? await env.RESULTS.get(id) : null;
    return result === null ? Response.json({ state: "waiting" }, { status: 404 }) : Response.json({ state: "done", result });
  },

  async queue(batch: MessageBatch<Job>, env: Env): Promise<void> {
    for (const message of batch.messages) {
      const { id, text } = message.body;
      try {
        await env.RESULTS.put(id, work(text), { expirationTtl: 3600 });
        message.ack();
      } catch {
        message.retry();
      }
    }
  },

  async scheduled(_controller: ScheduledController, env: Env): Promise<void> {
    const { keys } = await env.RESULTS.list();
    for (const { name } of keys) await env.RESULTS.delete(name);
  },
};

function work(text: string): string {
  if (text === "") throw new Error("nothing to do");
  return [...text].reverse().join("");
}
