// Tells what a Worker exports. It is linked with a Worker's modules in a throw-away process.
import * as exported from "MAIN";
import * as base from "cloudflare:workers";

function lineage(c, ancestor) {
  return typeof ancestor === "function" && c.prototype instanceof ancestor;
}

function methods(c, ancestor) {
  const names = new Set();
  for (let p = c.prototype; p && p !== ancestor.prototype && p !== Object.prototype; p = Object.getPrototypeOf(p)) {
    for (const n of Object.getOwnPropertyNames(p)) if (n !== "constructor") names.add(n);
  }
  return [...names].sort();
}

function report() {
  const r = { handlers: [], entrypoints: {}, durable_objects: [], workflows: [], classes: [] };
  for (const [name, v] of Object.entries(exported)) {
    const isClass = typeof v === "function" && v.prototype !== undefined;
    if (isClass && lineage(v, base.WorkerEntrypoint)) {
      const m = methods(v, base.WorkerEntrypoint);
      if (name === "default") r.handlers = m;
      else r.entrypoints[name] = m;
    } else if (isClass && lineage(v, base.DurableObject)) r.durable_objects.push(name);
    else if (isClass && lineage(v, base.WorkflowEntrypoint)) r.workflows.push(name);
    else if (isClass) r.classes.push(name);
    else if (v && typeof v === "object") {
      const m = [];
      for (const k in v) if (typeof v[k] === "function") m.push(k);
      m.sort();
      if (name === "default") r.handlers = m;
      else r.entrypoints[name] = m;
    }
  }
  return r;
}

export default {
  fetch() {
    return Response.json(report());
  },
};
