/** What the engine's port answers: one function from a request to its answer. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Dialect, Methods, Route, RouteTable, Served } from "./dialect.ts";

const METHODS = ["GET", "HEAD", "POST", "DELETE"] as const;

/** Never throws: what fails becomes an answer in the dialect's shape. `isLoaded`: the load is over. */
export function createHandler(
  dialect: Dialect,
  served: Served,
  isLoaded: () => boolean,
): (req: Request) => Promise<Response> {
  const table = dialect.routes(served);
  addAdminRoutes(table, dialect.adminRoutes, served.options.print);
  const headers = Object.entries(dialect.headers);
  return async (req) => {
    const { pathname } = new URL(req.url);
    const refusal = isLoaded() ? null : dialect.whileLoading(pathname);
    const response = refusal ?? (await answer(dialect, table, { req, pathname }));
    for (const [name, value] of headers) response.headers.set(name, value);
    return response;
  };
}

async function answer(
  dialect: Dialect,
  table: RouteTable,
  { req, pathname }: { req: Request; pathname: string },
): Promise<Response> {
  const methods = methodsOf(table, pathname);
  try {
    if (!methods) throw new LlmnodeError("unknown_url", `no such path: ${pathname}`);
    const route = routeOf(methods, req.method);
    if (!route) {
      const allowed = Object.keys(methods).filter((name) => name !== "failure");
      throw new LlmnodeError("method_not_allowed", `${req.method} is not allowed here`, {
        allow: allowed.join(", "),
      });
    }
    return await route(req);
  } catch (error) {
    return (methods?.failure ?? dialect.failure)(error);
  }
}

function methodsOf(table: RouteTable, pathname: string): Methods | null {
  if (Object.hasOwn(table, pathname)) return table[pathname] ?? null;
  const open = Object.keys(table).find(
    (path) => path.endsWith("*") && pathname.startsWith(path.slice(0, -1)),
  );
  return open === undefined ? null : (table[open] ?? null);
}

function routeOf(methods: Methods, method: string): Route | undefined {
  const known = METHODS.find((one) => one === method);
  return known && methods[known];
}

/**
 * Admin routes answer and do nothing, but each call is in the log with its number, so that a
 * test can prove that no client reached them.
 */
function addAdminRoutes(
  table: RouteTable,
  entries: readonly string[],
  print: (line: string) => void,
): void {
  let calls = 0;
  for (const entry of entries) {
    const [name, path = ""] = entry.split(" ");
    const method = METHODS.find((one) => one === name);
    if (method === undefined) throw new Error(`not "METHOD /path": ${entry}`);
    const route = () => {
      calls += 1;
      print(`llmnode sim: admin call ${calls}: ${entry} (simulated, nothing changes)`);
      return Response.json({ success: true, message: "simulated: nothing changes" });
    };
    table[path] = { ...table[path], [method]: route };
  }
}
