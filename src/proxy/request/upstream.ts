/** Sends a request to an engine: the direct way, over plain HTTP. */

import type { HostPort } from "../../util/host-port.ts";
import { probeTcp } from "../../util/tcp.ts";

export type BodyContent = Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null;

/** The one shape of every route to a replica. */
export type Upstream = (request: UpstreamRequest) => Promise<Response>;

export interface UpstreamRequest {
  /** Path and query, from the first slash on. */
  path: string;
  method: string;
  headers: Headers;
  body: BodyContent;
  /** Of a streamed body, where it is known. */
  length?: number | null;
  signal: AbortSignal;
  /** A connection of its own, where a pooled one may have been closed meanwhile. */
  fresh?: boolean;
}

/** How `probeTcp` tells silence. */
const NO_ANSWER = "no answer";

/** How long an engine may take to accept a connection. */
const CONNECT_TIMEOUT_MS = 2000;

/**
 * An engine at `baseUrl`, without a slash at its end. Rejects with `ETIMEDOUT` when nothing accepts
 * connections there within `connectTimeoutMs`: fetch itself knows no such limit. So where no answer
 * has come in half of that time, a connection beside it is tried for the other half.
 */
export function directUpstream(
  baseUrl: string,
  { connectTimeoutMs = CONNECT_TIMEOUT_MS }: { connectTimeoutMs?: number } = {},
): Upstream {
  return (request) =>
    // By hand: `Promise.race` makes four promises more, for every request.
    new Promise((resolve, reject) => {
      const answer = send(baseUrl, request);
      const timer = setTimeout(async () => {
        const unreachable = await probeTcp(addressOf(baseUrl), connectTimeoutMs / 2);
        // Anything but silence is for fetch to tell.
        if (unreachable === NO_ANSWER) reject(new ConnectTimeoutError(baseUrl));
      }, connectTimeoutMs / 2);
      answer.then(
        (response) => {
          clearTimeout(timer);
          resolve(response);
        },
        (error: unknown) => {
          clearTimeout(timer);
          reject(error);
        },
      );
    });
}

class ConnectTimeoutError extends Error {
  readonly code = "ETIMEDOUT";

  constructor(baseUrl: string) {
    super(`nothing accepts connections at ${baseUrl}`);
  }
}

function addressOf(baseUrl: string): HostPort {
  const { hostname, port, protocol } = new URL(baseUrl);
  const usual = protocol === "https:" ? 443 : 80;
  return { host: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? usual : Number(port) };
}

function send(baseUrl: string, request: UpstreamRequest): Promise<Response> {
  const { length = null } = request;
  if (request.body instanceof ReadableStream && length !== null) {
    request.headers.set("content-length", String(length));
  }
  return fetch(`${baseUrl}${request.path}`, {
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
    // Engines with TLS have certificates of their own making; the worker vouches for them. Without
    // TLS the option would cost a tenth of a request.
    ...(baseUrl.startsWith("https:") ? { tls: { rejectUnauthorized: false } } : {}),
  } as RequestInit & BunFetchRequestInit);
}
