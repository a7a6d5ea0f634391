/** Reads a request's path: other systems' forms of it become ours. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { ALL_MODELS, isServiceName } from "../../protocol/replica-request.ts";

export interface RequestPath {
  pathname: string;
  /** The query with its mark, or nothing. */
  search: string;
  /** The worker that the path insists on, by name or id. */
  worker: string | null;
  /** The service that the path is for; then `pathname` is the path at that service. */
  service: string | null;
}

/** The path as it was sent, which `new URL` would normalise. Throws `unknown_url`, `bad_request`. */
export function readPath(url: string): RequestPath {
  // A request of HTTP/1.0 without a host has a path only, as from older load balancers' checks.
  const start = url.startsWith("/") ? 0 : url.indexOf("/", url.indexOf("//") + 2);
  const path = start === -1 ? "/" : url.slice(start);
  const mark = path.indexOf("?");
  const pathname = mark === -1 ? path : path.slice(0, mark);
  const search = mark === -1 ? "" : path.slice(mark);
  return { ...target(pathname), search };
}

const SERVICE = /^\/v1\/service\/([^/]+)(\/.*)?$/;
const PINNED_SERVICE = /^\/v1\/p2p\/([^/]+)\/v1\/_service\/([^/]+)(\/.*)?$/;

/**
 * OpenTela: `/v1/service/<name>/...` and, for one worker, `/v1/p2p/<id>/v1/_service/<name>/...`;
 * the service `llm` is all models.
 */
function target(pathname: string): Omit<RequestPath, "search"> {
  if (!pathname.startsWith("/v1/service/") && !pathname.startsWith("/v1/p2p/")) {
    return { pathname, worker: null, service: null };
  }
  const service = SERVICE.exec(pathname);
  if (service) return served({ name: service[1], rest: service[2], worker: null });
  const pinned = PINNED_SERVICE.exec(pathname);
  if (pinned) {
    return served({ name: pinned[2], rest: pinned[3], worker: decode(pinned[1] ?? "") });
  }
  throw new LlmnodeError("unknown_url", `There is no service at ${pathname.slice(0, 200)}.`);
}

/** The name counts as it stands: an escape in it makes it another one, which no service has. */
function served(of: {
  name: string | undefined;
  rest: string | undefined;
  worker: string | null;
}): Omit<RequestPath, "search"> {
  const { name = "", rest = "/", worker } = of;
  if (name === ALL_MODELS) {
    // The head's own page is no engine's.
    if (rest === "/") throw new LlmnodeError("unknown_url", "There is nothing at this path.");
    return { pathname: rest, worker, service: null };
  }
  if (isServiceName(name)) return { pathname: rest, worker, service: name };
  throw new LlmnodeError("not_found", `There is no service ${JSON.stringify(name.slice(0, 80))}.`);
}

/** A part of a path as it was meant. Throws `bad_request`. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new LlmnodeError("bad_request", "The path is not encoded correctly.");
  }
}
