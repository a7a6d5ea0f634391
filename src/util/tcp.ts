/** Finds out whether something accepts TCP connections at an address. */

import type { HostPort } from "./host-port.ts";

/** Null when a connection was accepted, otherwise why not, in words. Never throws. */
export function probeTcp(address: HostPort, timeoutMs: number): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const timer = setTimeout(() => resolve("no answer"), timeoutMs);
  // It throws at once for what is no address at all.
  Promise.try(() =>
    Bun.connect({
      hostname: address.host,
      port: address.port,
      socket: {
        open(socket) {
          resolve(null);
          socket.end();
        },
        data() {},
        connectError(_socket, error) {
          resolve(reasonOf(error));
        },
      },
    }),
  ).then(
    (socket) => promise.then(() => socket.terminate()),
    (error: unknown) => resolve(reasonOf(error)),
  );
  return promise.finally(() => clearTimeout(timer));
}

function reasonOf(error: unknown): string {
  const code =
    typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ECONNREFUSED":
      return "connection refused";
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "DNS_ENOTFOUND":
      return "the name cannot be resolved";
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return "no route to the host";
    default:
      return code === "" ? String(error) : code;
  }
}
