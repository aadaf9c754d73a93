// Reads cron expressions as the runtime's own scheduler does: when each fires next. The
// clock is ours, which can be advanced.
import { parse, next } from "./bundled.js";
export { Schedule } from "./bundled.js";

export default {
  async fetch(request) {
    const { crons, after } = await request.json();
    try {
      return Response.json({ next: crons.map((c) => next(parse(c), after)) });
    } catch (e) {
      return Response.json({ error: String(e.message ?? e) });
    }
  },
};
