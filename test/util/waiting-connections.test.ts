import { expect, test } from "bun:test";
import net from "node:net";
import { waitingConnections } from "../../src/util/tcp.ts";

test.if(process.platform === "linux")("a listener that keeps up has nobody waiting", async () => {
  const server = net.createServer((socket) => socket.destroy());
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  expect(waitingConnections(port)).toBe(0);
  // The kernel completes the connection while this turn of the event loop still runs.
  const child = Bun.spawnSync(["bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${port}`]);
  expect(child.exitCode).toBe(0);
  expect(waitingConnections(port)).toBe(1);
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
  expect(waitingConnections(port)).toBeNull();
});
