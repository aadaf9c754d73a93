import items from "./items.json";
import { Router } from "./router";

const router = new Router()
  .on("GET", "/", () => Response.json({ endpoints: ["/items", "/items/:id"] }))
  .on("GET", "/items", () => Response.json(items))
  .on("GET", "/items/:id", (_request, { id }) => {
    const item = items.find((i) => i.id === id);
    return item ? Response.json(item) : Response.json({ error: `no item ${id}` }, { status: 404 });
  });

export default {
  fetch: (request: Request): Promise<Response> => router.handle(request),
};
