interface Env {
  DB: D1Database;
}

interface Note {
  id: number;
  text: string;
  pinned: number;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname !== "/notes") return new Response("GET or POST /notes\n", { status: 404 });
    if (request.method === "POST") {
      const text = (await request.text()).trim();
      if (text === "") return Response.json({ error: "a note has a text" }, { status: 400 });
      const note = await env.DB.prepare("INSERT INTO notes (text) VALUES (?1) RETURNING id, text, pinned").bind(text).first<Note>();
      return Response.json(note, { status: 201 });
    }
    const { results } = await env.DB.prepare("SELECT id, text, pinned FROM notes ORDER BY pinned DESC, id").all<Note>();
    return Response.json(results);
  },
};
