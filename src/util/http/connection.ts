/** One TCP or TLS connection to an HTTP server, used by one request after the other. */

import { createNotifier } from "../flow/notifier.ts";

export interface ConnectionUser {
  data(bytes: Buffer): void;
  /** Called once, not after `close`; null where the server ended it in order. */
  broke(error: Error | null): void;
}

export interface HttpConnection {
  /** Who is called; changes with each request. */
  user: ConnectionUser | null;
  /** Settles when the system has taken all: with false when the connection is gone. One at a time. */
  write(bytes: Uint8Array): Promise<boolean>;
  /** Reads no further; then only what was read already is passed on. */
  pause(): void;
  resume(): void;
  /** At once, whatever is under way. */
  close(): void;
}

/**
 * Rejects with the signal's reason, or an error with the system's code: ECONNREFUSED, ENOTFOUND,
 * ETIMEDOUT after `timeoutMs`, ... A server's certificate is not verified.
 */
export function openConnection(
  url: URL,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<HttpConnection> {
  const isSecure = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const opened = Promise.withResolvers<HttpConnection>();
  const drained = createNotifier();
  let socket: Bun.Socket | null = null;
  let isClosed = false;
  let isPaused = false;

  const broke = (error: Error | null) => {
    if (isClosed) return;
    isClosed = true;
    drained.notify();
    opened.reject(error ?? coded("the connection broke at once", "ECONNRESET"));
    connection.user?.broke(error);
    socket?.terminate();
  };
  const connection: HttpConnection = {
    user: null,
    async write(bytes) {
      for (let at = 0; !isClosed && socket !== null;) {
        at += Math.max(0, socket.write(at === 0 ? bytes : bytes.subarray(at)));
        if (at >= bytes.length) return true;
        await drained.wait();
      }
      return false;
    },
    pause() {
      if (isClosed || isPaused) return;
      isPaused = true;
      socket?.pause();
    },
    resume() {
      if (isClosed || !isPaused) return;
      isPaused = false;
      socket?.resume();
    },
    close() {
      isClosed = true;
      drained.notify();
      socket?.terminate();
    },
  };
  const giveUp = (error: unknown) => {
    opened.reject(error);
    connection.close();
  };
  const timer = setTimeout(
    () => giveUp(coded(`nothing accepts connections at ${url.host}`, "ETIMEDOUT")),
    timeoutMs,
  );
  const abort = () => giveUp(signal.reason);
  signal.addEventListener("abort", abort);
  Bun.connect({
    hostname: host,
    port: Number(url.port) || (isSecure ? 443 : 80),
    ...(isSecure ? { tls: { rejectUnauthorized: false, serverName: host } } : {}),
    socket: {
      open(own) {
        socket = own;
        if (isClosed) return void own.terminate();
        own.setNoDelay(true);
        opened.resolve(connection);
      },
      data: (_own, bytes) => connection.user?.data(bytes),
      drain: drained.notify,
      end: () => broke(null),
      close: (_own, error) => broke(error === undefined ? null : withCode(error)),
      error: (_own, error) => broke(withCode(error)),
      connectError: (_own, error) => broke(withCode(error)),
    },
  }).catch((error: unknown) => broke(withCode(error)));
  return opened.promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  });
}

/** An error of a socket, with the system's code: a broken connection where it has none. */
function withCode(error: unknown): Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const message = error instanceof Error ? error.message : String(error);
  return coded(message, code === "" ? "ECONNRESET" : code.replace(/^DNS_/, ""));
}

function coded(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
