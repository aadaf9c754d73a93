// The runtime's own D1, with the database named by a header that the binding injects,
// and a temporary account's limit on its size.
import D1, { D1Database as Bundled } from "./bundled.js";

export class Database extends D1 {}

const READS = /^\s*(?:--[^\n]*\n\s*|\/\*[^]*?\*\/\s*)*(?:select|explain|with|pragma|delete|drop|values)\b/i;

export class D1Database extends Bundled {
  run(queries, bookmarked) {
    if (this.ctx.storage.sql.databaseSize >= this.env.LIMIT && queries.some((q) => !READS.test(q.sql))) {
      throw new Error("Exceeded maximum DB size: SQLITE_FULL");
    }
    return super.run(queries, bookmarked);
  }
}

export default {
  fetch(request, env, ctx) {
    return ctx.exports.Database({ props: { database: request.headers.get("x-hourglass-id") } }).fetch(request);
  },
};
