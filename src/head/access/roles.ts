/** What of the head's own is for whom: one table of all that it answers itself. */

import type { Role } from "../../protocol/caller.ts";
import type { PublicPart } from "./modes.ts";

/**
 * `everybody`: no question asked. `client`: whoever may ask for an answer of a model. `user`,
 * `viewer`: that role, or a person on the head's own machine. `operator`: that role, from anywhere.
 */
export type Needed = "everybody" | "client" | Extract<Role, "user" | "viewer" | "operator">;

interface Row {
  /** `/*` at its end stands for all below. */
  path: string;
  read: Needed;
  /** Absent: an operator's, if it can be asked for at all. */
  write?: Needed;
  /** Which part of `--public` opens it. */
  openedBy?: PublicPart;
}

const ROWS: readonly Row[] = [
  { path: "/health/live", read: "everybody" },
  { path: "/health/ready", read: "everybody" },
  { path: "/health/stream", read: "everybody" },
  { path: "/v1/realtime", read: "everybody", write: "everybody" },
  { path: "/v1/models", read: "client" },
  { path: "/v1/models/*", read: "client" },
  { path: "/api/tags", read: "client" },
  { path: "/api/ps", read: "client" },
  // Names and addresses of machines.
  { path: "/", read: "viewer", openedBy: "status" },
  { path: "/metrics", read: "viewer", openedBy: "metrics" },
  { path: "/v1/dnt/table", read: "viewer" },
  { path: "/api/v1/status", read: "viewer", openedBy: "status" },
  // What is written there is which part of it is shown.
  { path: "/api/v1/watch", read: "viewer", write: "viewer", openedBy: "status" },
  { path: "/api/v1/watch/*", read: "viewer", write: "viewer" },
  { path: "/api/v1/requests", read: "viewer" },
  { path: "/api/v1/events", read: "viewer" },
  { path: "/api/v1/aliases", read: "viewer" },
  { path: "/api/v1/workers/drains", read: "viewer" },
  { path: "/api/v1/workers/logs", read: "viewer" },
  // A user's key sees its own.
  { path: "/api/v1/usage", read: "user" },
];

const EXACT = new Map(ROWS.map((row) => [row.path, row]));
const BELOW = ROWS.filter(({ path }) => path.endsWith("/*"));

export interface OpenedBy {
  public: Record<PublicPart, boolean>;
}

export interface Asked {
  method: string;
  pathname: string;
  /** The query with its mark, or nothing. */
  search?: string;
}

/** What a request for one of the head's own needs. What is not in the table is for operators. */
export function neededRole({ method, pathname, search = "" }: Asked, opened: OpenedBy): Needed {
  const row =
    EXACT.get(pathname) ?? BELOW.find(({ path }) => pathname.startsWith(path.slice(0, -1)));
  if (!row) return "operator";
  const isRead = method === "GET" || method === "HEAD";
  const needed = isRead ? row.read : (row.write ?? "operator");
  const isOpen =
    row.openedBy !== undefined && opened.public[row.openedBy] && !showsMore(pathname, search);
  return isOpen && needed !== "operator" ? "everybody" : needed;
}

/** Who asks for what, and what one worker is like, are no part of a public status. */
function showsMore(pathname: string, search: string): boolean {
  if (pathname !== "/api/v1/watch") return false;
  const words = new URLSearchParams(search);
  return words.has("detail") || words.getAll("view").some((view) => !PUBLIC_VIEWS.includes(view));
}

const PUBLIC_VIEWS: readonly string[] = ["workers", "models"];

/** Which requests a port is for: with `--admin-listen` those of operators have one of their own. */
export type Part = "all" | "clients" | "operators";

export function isServedAt(part: Part, needed: Needed): boolean {
  return part !== "clients" || (needed !== "viewer" && needed !== "operator");
}
