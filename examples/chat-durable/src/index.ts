export { Room } from "./room";

interface Env {
  ROOMS: DurableObjectNamespace<import("./room").Room>;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const [, kind, name] = new URL(request.url).pathname.split("/");
    if (kind !== "rooms" || !name) return new Response("GET /rooms/<name>\n", { status: 404 });
    const room = env.ROOMS.getByName(name);
    if (request.headers.get("Upgrade") === "websocket") return room.fetch(request);
    if (request.method === "POST") return Response.json(await room.say("anonymous", await request.text()), { status: 201 });
    return Response.json(await room.last());
  },
};
