import { DurableObject } from "cloudflare:workers";

export interface Message {
  from: string;
  text: string;
}

const KEPT = 100;

export class Room extends DurableObject {
  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env as never);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, sender TEXT, body TEXT)");
  }

  // Hibernating WebSockets: the object need not stay in memory while nobody speaks.
  fetch(request: Request): Response {
    const [theirs, ours] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(ours);
    ours.serializeAttachment(new URL(request.url).searchParams.get("name") ?? "guest");
    for (const m of this.last()) ours.send(JSON.stringify(m));
    return new Response(null, { status: 101, webSocket: theirs });
  }

  webSocketMessage(socket: WebSocket, text: string | ArrayBuffer): void {
    if (typeof text === "string") this.say(socket.deserializeAttachment() as string, text);
  }

  say(from: string, text: string): Message {
    const message = { from, text: text.slice(0, 1000) };
    const sql = this.ctx.storage.sql;
    sql.exec("INSERT INTO messages (sender, body) VALUES (?, ?)", message.from, message.text);
    sql.exec("DELETE FROM messages WHERE id <= (SELECT max(id) FROM messages) - ?", KEPT);
    for (const socket of this.ctx.getWebSockets()) socket.send(JSON.stringify(message));
    return message;
  }

  last(): Message[] {
    return this.ctx.storage.sql.exec<{ from: string; text: string }>('SELECT sender AS "from", body AS text FROM messages ORDER BY id').toArray();
  }
}
