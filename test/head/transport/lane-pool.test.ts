import { expect, test } from "bun:test";
import { LanePool, type LanePoolOptions } from "../../../src/head/transport/lane-pool.ts";
import { startLaneServer } from "../../../src/head/transport/lane-server.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { ask } from "../../helpers/exchange.ts";
import { waitFor } from "../../helpers/wait.ts";

/** A pool whose lanes are sockets that only note what happens to them. */
function pool(options: Partial<LanePoolOptions> = {}) {
  const asked: number[] = [];
  const closed: number[] = [];
  let lanes = 0;
  const made = new LanePool({
    requestMore: (count) => asked.push(count),
    parkedAtFirst: 4,
    maxLanes: 16,
    mayGrow: () => true,
    maxWaiting: 100,
    waitTimeoutMs: 1000,
    shrinkAfterMs: 60_000,
    doneTimeoutMs: 100,
    ...options,
  });
  return {
    ...{ pool: made, asked, closed },
    adopt() {
      lanes += 1;
      const number = lanes;
      return made.adopt({ send: () => true, close: () => closed.push(number) });
    },
    ask: (signal = new AbortController().signal) =>
      ask(made.upstream("1"), {
        ...{ path: "/", method: "POST", host: null, fields: "", body: null, length: null },
        ...{ fresh: false, signal },
      }),
  };
}

test("renew closes the free lanes, leaves the busy one, and asks for as many as are kept free", () => {
  const { pool: own, adopt, ask, closed } = pool();
  for (let i = 0; i < 4; i += 1) adopt();
  ask().catch(() => {});
  expect([own.lanes, own.parked]).toEqual([4, 3]);
  expect(own.renew()).toBe(4);
  // The newest free one was taken: it lives.
  expect([closed, own.lanes, own.parked]).toEqual([[1, 2, 3], 1, 0]);
});

test("renew asks for as many as wait, within what a worker may have", async () => {
  const { pool: own, ask } = pool({ parkedAtFirst: 2, maxLanes: 6 });
  const requests = Array.from({ length: 10 }, () => ask().catch(() => "none"));
  await waitFor(() => own.renew() === 6);
  own.close();
  expect(await Promise.all(requests)).toEqual(requests.map(() => "none"));
});

test("renew counts busy lanes of before against the limit", () => {
  const { pool: own, adopt, ask } = pool({ parkedAtFirst: 4, maxLanes: 4 });
  for (let i = 0; i < 3; i += 1) {
    adopt();
    ask().catch(() => {});
  }
  expect([own.renew(), own.lanes]).toEqual([1, 3]);
});

test("lanes that were asked for before a renewal are not waited for after it", () => {
  const { pool: own, asked, adopt, ask } = pool({ parkedAtFirst: 2 });
  ask().catch(() => {});
  expect(asked).toEqual([4]);
  expect(own.renew()).toBe(2);
  adopt();
  adopt();
  expect([own.lanes, own.parked]).toEqual([2, 1]);
});

test("a lane whose worker vanished without a word is closed in time, its request told; others live", async () => {
  const { log } = memoryLog();
  const { pool: own, ask } = pool({ parkedAtFirst: 1 });
  await using server = startLaneServer({
    listen: { host: "127.0.0.1", port: 0 },
    tls: null,
    log,
    worker: () => ({ pool: own, key: "k", heard() {} }),
    deadAfterMs: 300,
  });
  const headers = { authorization: "Bearer k", "x-llmnode-worker-id": "w" };
  // Below WebSocket: nobody answers its pings.
  const vanished = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.address.port,
    socket: {
      open(socket) {
        socket.write(
          `GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n` +
            `sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n` +
            `authorization: ${headers.authorization}\r\nx-llmnode-worker-id: w\r\n\r\n`,
        );
      },
      data() {},
    },
  });
  await waitFor(() => own.parked === 1);
  const failed = ask().then(
    () => null,
    (error: unknown) => error,
  );
  const living = new WebSocket(`ws://127.0.0.1:${server.address.port}`, { headers });
  await waitFor(() => own.lanes === 2);
  expect(await failed).toMatchObject({ code: "LANE_BROKEN" });
  await Bun.sleep(700);
  expect([own.lanes, own.parked, living.readyState]).toEqual([1, 1, WebSocket.OPEN]);
  living.close();
  vanished.terminate();
  own.close();
});
