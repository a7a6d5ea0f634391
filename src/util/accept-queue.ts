/** Tells how many connections the kernel holds for listeners of this machine that nobody took yet. */

import { closeSync, openSync, readSync } from "node:fs";

/** Listeners come first in these files; what follows may be many thousands of connections. */
const READ_BYTES = 64 * 1024;
/** The state of a listener, TCP_LISTEN of the kernel's net/tcp_states.h. */
const LISTEN = "0A";

/**
 * Over all listeners on that port, of any address. Null where the system does not tell: elsewhere
 * than on Linux. Never throws.
 */
export function waitingConnections(port: number): number | null {
  const lines = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((file) => head(file).split("\n"));
  const queues = lines.flatMap((line) => {
    // "sl local_address rem_address st tx_queue:rx_queue ..." in hex (proc_net_tcp.rst); of a
    // listener, rx_queue counts connections.
    const [, local, , state, queue] = line.trim().split(/\s+/);
    if (state !== LISTEN || Number.parseInt(local?.split(":")[1] ?? "", 16) !== port) return [];
    return [Number.parseInt(queue?.split(":")[1] ?? "0", 16)];
  });
  return queues.length === 0 ? null : queues.reduce((sum, one) => sum + one, 0);
}

function head(file: string): string {
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
    // No such file on this system: then it does not tell.
    return "";
  }
}
