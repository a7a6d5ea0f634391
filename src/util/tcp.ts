/** TCP as the system sees it: whether an address accepts connections, how many wait to be accepted. */

import { closeSync, openSync, readSync } from "node:fs";
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

/** Listeners come first in these files; what follows may be many thousands of connections. */
const READ_BYTES = 64 * 1024;
/** The state of a listener, TCP_LISTEN of the kernel's net/tcp_states.h. */
const LISTEN = "0A";

/**
 * Connections that the kernel holds and no process has accepted yet, over all listeners on that port, of any address. Null where the system does not show it: elsewhere
 * than on Linux. Never throws.
 */
export function waitingConnections(port: number): number | null {
  const lines = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((file) => readHead(file).split("\n"));
  const queues = lines.flatMap((line) => {
    // "sl local_address rem_address st tx_queue:rx_queue ..." in hex (proc_net_tcp.rst); of a
    // listener, rx_queue counts connections.
    const [, local, , state, queue] = line.trim().split(/\s+/);
    if (state !== LISTEN || Number.parseInt(local?.split(":")[1] ?? "", 16) !== port) return [];
    return [Number.parseInt(queue?.split(":")[1] ?? "0", 16)];
  });
  return queues.length === 0 ? null : queues.reduce((sum, one) => sum + one, 0);
}

function readHead(file: string): string {
  const buffer = Buffer.alloc(READ_BYTES);
  try {
    const fd = openSync(file, "r");
    try {
      // One page at a time is what these files give.
      let length = 0;
      for (;;) {
        const read = readSync(fd, buffer, length, READ_BYTES - length, null);
        length += read;
        if (read === 0 || length === READ_BYTES) return buffer.toString("latin1", 0, length);
      }
    } finally {
      closeSync(fd);
    }
  } catch {
    // No such file on this system: then it is not known.
    return "";
  }
}
