/** The head's own routes, one table: what answers at a path, by which methods, and for whom. */

import type { Caller, Role } from "../../protocol/caller.ts";
import type { RequestPath } from "./paths.ts";

/**
 * `everyone`: no question asked. `client`: anyone who may use models. `user`, `viewer`: that role,
 * or a person on the head's own machine. `operator`: that role, from anywhere.
 */
export type Audience = "everyone" | "client" | Extract<Role, "user" | "viewer" | "operator">;

/** What can be opened to everyone: the status with the page at `/`, and `/metrics`. */
export const PUBLIC_PARTS = ["status", "metrics"] as const;
export type PublicPart = (typeof PUBLIC_PARTS)[number];

export interface RouteCall {
  request: Request;
  path: RequestPath;
  caller: Caller;
  requestId: string;
  /** Lifts the limit for a silent connection, until `onEnd` is called. */
  keepOpen(): void;
  onEnd(): void;
}

export interface HeadRoute {
  methods: readonly ("GET" | "HEAD" | "POST")[];
  /** `/*` at its end stands for all below. */
  path: string;
  audience: Audience;
  /** Which part of `--public` opens it. */
  openedBy?: PublicPart;
  /** Whether a query asks for more of it than is opened with that part. */
  staysClosed?: (search: string) => boolean;
  handle(call: RouteCall): Response | Promise<Response>;
}

/** The routes at a path, for all methods; empty: there is nothing. */
export type RouteTable = (pathname: string) => readonly HeadRoute[];

export function createRouteTable(routes: readonly HeadRoute[]): RouteTable {
  const exact = Map.groupBy(routes, ({ path }) => path);
  const below = routes.filter(({ path }) => path.endsWith("/*"));
  return (pathname) =>
    exact.get(pathname) ?? below.filter(({ path }) => pathname.startsWith(path.slice(0, -1)));
}
