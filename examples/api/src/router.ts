export type Handler = (request: Request, params: Record<string, string>) => Response | Promise<Response>;

// A router of a few lines: patterns like /items/:id.
export class Router {
  private routes: { method: string; pattern: URLPattern; handler: Handler }[] = [];

  on(method: string, pathname: string, handler: Handler): this {
    this.routes.push({ method, pattern: new URLPattern({ pathname }), handler });
    return this;
  }

  async handle(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    for (const { method, pattern, handler } of this.routes) {
      const match = pattern.exec({ pathname });
      if (match && method === request.method) {
        return handler(request, match.pathname.groups as Record<string, string>);
      }
    }
    return Response.json({ error: "not found", path: pathname }, { status: 404 });
  }
}
