/** Sends a request to an engine: the direct way, over plain HTTP. */

import type { BodyContent } from "./payload.ts";

/** The one shape of every way to a replica. */
export type Upstream = (request: UpstreamRequest) => Promise<Response>;

export interface UpstreamRequest {
  /** Path and query, from the first slash on. */
  path: string;
  method: string;
  headers: Headers;
  body: BodyContent;
  signal: AbortSignal;
  /** A connection of its own, where a pooled one may have been closed meanwhile. */
  fresh?: boolean;
}

/** An engine at `baseUrl`, without a slash at its end. */
export function directUpstream(baseUrl: string): Upstream {
  return (request) =>
    fetch(`${baseUrl}${request.path}`, {
      method: request.method,
      headers: request.headers,
      body: request.body,
      signal: request.signal,
      redirect: "manual",
      // The bytes are the engine's bytes, and nothing but our own rules ends a request.
      decompress: false,
      timeout: false,
      proxy: false,
      keepalive: request.fresh !== true,
      // Engines with TLS have certificates of their own making; the worker vouches for them.
      tls: { rejectUnauthorized: false },
    } as RequestInit & BunFetchRequestInit);
}
