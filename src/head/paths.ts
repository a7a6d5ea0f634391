/** Reads a request's path: other systems' forms of it become ours. */

import { LlmnodeError } from "../protocol/errors.ts";

export interface RequestPath {
  pathname: string;
  /** The query with its mark, or nothing. */
  search: string;
  /** The worker that the path insists on, by name or id. */
  worker: string | null;
}

/** The path as it was sent, which `new URL` would normalise. Throws `unknown_url`, `bad_request`. */
export function readPath(url: string): RequestPath {
  // A request of HTTP/1.0 without a host has a path only, as from older load balancers' checks.
  const start = url.startsWith("/") ? 0 : url.indexOf("/", url.indexOf("//") + 2);
  const path = start === -1 ? "/" : url.slice(start);
  const mark = path.indexOf("?");
  const pathname = mark === -1 ? path : path.slice(0, mark);
  const search = mark === -1 ? "" : path.slice(mark);
  return { ...foreign(pathname), search };
}

/** OpenTela: `/v1/service/llm/v1/...` and, for one worker, `/v1/p2p/<id>/v1/_service/llm/v1/...`. */
function foreign(pathname: string): { pathname: string; worker: string | null } {
  if (!pathname.startsWith("/v1/service/") && !pathname.startsWith("/v1/p2p/")) {
    return { pathname, worker: null };
  }
  const service = /^\/v1\/service\/llm(\/.*)$/.exec(pathname);
  if (service) return { pathname: service[1] ?? "", worker: null };
  const pinned = /^\/v1\/p2p\/([^/]+)\/v1\/_service\/llm(\/.*)$/.exec(pathname);
  if (pinned) return { pathname: pinned[2] ?? "", worker: decode(pinned[1] ?? "") };
  throw new LlmnodeError("unknown_url", `There is no service at ${pathname.slice(0, 200)}.`);
}

/** A part of a path as it was meant. Throws `bad_request`. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new LlmnodeError("bad_request", "The path is badly encoded.");
  }
}
