/** A TCP relay in front of a port, for tests that break connections as networks do. */

import { connect, createServer, type Socket } from "node:net";
import type { HostPort } from "../../src/util/host-port.ts";

export interface Relay extends AsyncDisposable {
  readonly address: HostPort;
  readonly connections: number;
  /** Whether new connections are let through; those refused are closed at once. */
  open: boolean;
  /** Breaks the connections that stand. */
  cut(): void;
  /**
   * From now on nothing passes on the connections that stand, their ends neither; what comes is
   * kept, and the returned function hands it on.
   */
  freeze(): () => void;
}

interface Line {
  near: Socket;
  far: Socket;
  /** What came while frozen; null while not. */
  kept: (() => void)[] | null;
}

export async function openRelay(to: HostPort): Promise<Relay> {
  const lines = new Set<Line>();
  let relay: Relay | null = null;
  const server = createServer((near) => {
    if (!relay?.open) return void near.destroy();
    const far = connect(to.port, to.host);
    const line: Line = { near, far, kept: null };
    lines.add(line);
    const pass = (act: () => void) => (line.kept ? void line.kept.push(act) : act());
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (bytes) => pass(() => void into.write(bytes)));
      from.on("error", () => {});
      from.on("close", () => {
        pass(() => {
          into.destroy();
          lines.delete(line);
        });
      });
    }
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const bound = server.address();
  const cut = () => {
    for (const { near, far } of lines) {
      near.destroy();
      far.destroy();
    }
    lines.clear();
  };
  relay = {
    open: true,
    address: {
      host: "127.0.0.1",
      port: typeof bound === "object" && bound !== null ? bound.port : 0,
    },
    get connections() {
      return lines.size;
    },
    cut,
    freeze() {
      const frozen = [...lines];
      for (const line of frozen) line.kept = [];
      return () => {
        for (const line of frozen) {
          const kept = line.kept ?? [];
          line.kept = null;
          for (const act of kept) act();
        }
      };
    },
    async [Symbol.asyncDispose]() {
      cut();
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
  return relay;
}
