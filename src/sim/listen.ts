/** The ports of a simulated engine: the one that answers, and those that only look like it. */

import { LlmnodeError, messageOf, systemCode } from "../protocol/errors.ts";
import { formatHostPort } from "../util/host-port.ts";
import type { SimOptions } from "./core/options.ts";

/** Large enough for images in base64; vLLM has no limit of its own. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;

/** For connections that send no request; answers may be silent for as long as they like. */
const IDLE_TIMEOUT_S = 60;

export interface Port {
  server: Bun.Server<undefined>;
  /** A stream has ended, of the request with this signal. */
  onStreamEnd(signal: AbortSignal): void;
}

/** Throws `port_in_use` or `address_unusable`. */
export function listen(
  options: SimOptions,
  handle: (req: Request) => Promise<Response>,
  failure: (error: unknown) => Response,
): Port {
  const { idleCloseS } = options;
  // The idle limit is lifted for an answer, and must come back when that has ended.
  const streams = new WeakMap<AbortSignal, Request>();
  try {
    const server = Bun.serve({
      hostname: options.host,
      port: options.port,
      development: false,
      // Bun shares the port with another process otherwise, and says nothing.
      reusePort: false,
      idleTimeout: idleCloseS ?? IDLE_TIMEOUT_S,
      maxRequestBodySize: MAX_BODY_BYTES,
      async fetch(req, self) {
        self.timeout(req, 0);
        if (idleCloseS === null) return handle(req);
        streams.set(req.signal, req);
        const response = await handle(req);
        const isStream = /event-stream|ndjson/.test(response.headers.get("content-type") ?? "");
        if (!isStream) self.timeout(req, idleCloseS);
        return response;
      },
      error: failure,
    });
    return {
      server,
      onStreamEnd(signal) {
        const req = streams.get(signal);
        if (req && idleCloseS !== null) server.timeout(req, idleCloseS);
      },
    };
  } catch (error) {
    throw listenError(error, options);
  }
}

/** Binds the port for a moment, so that a start that cannot succeed fails before the load. */
export function checkPort(options: SimOptions): void {
  listenAndReset(options)();
}

/**
 * A port that takes connections and resets them, as docker's proxy does while the engine loads.
 * Returns what closes it. Throws `port_in_use` or `address_unusable`.
 */
export function listenAndReset(options: SimOptions): () => void {
  try {
    const { host: hostname, port } = options;
    const listener = Bun.listen({
      hostname,
      port,
      // Only once something was said: the client sees its connection made, then lost.
      socket: { data: (socket) => socket.terminate() },
    });
    return () => listener.stop(true);
  } catch (error) {
    throw listenError(error, options);
  }
}

function listenError(error: unknown, { host, port }: SimOptions): LlmnodeError {
  const address = formatHostPort({ host, port });
  return systemCode(error) === "EADDRINUSE"
    ? new LlmnodeError("port_in_use", `${address} is already in use`, { cause: error })
    : new LlmnodeError("address_unusable", `cannot listen on ${address}: ${messageOf(error)}`, {
        cause: error,
      });
}
