/** Lanes for tests: a pool at a head, and a worker that opens them to an engine. */

import { LanePool, type LanePoolOptions } from "../../src/head/transport/lane-pool.ts";
import { startLaneServer } from "../../src/head/transport/lane-server.ts";
import type { Hello } from "../../src/protocol/messages.ts";
import { type LaneAddress, type Lanes, startLanes } from "../../src/worker/lanes.ts";
import { type FakeWorker, fakeWorker, memoryLog, type TestHead } from "./cluster.ts";
import { ask, type TestRequest } from "./exchange.ts";
import { waitFor } from "./wait.ts";

export interface Link extends AsyncDisposable {
  pool: LanePool;
  lanes: Lanes;
  port: number;
  send(request?: Partial<TestRequest>): Promise<Response>;
}

/** A pool at a head and its lanes from a worker, with one engine behind. */
export async function link(
  port: number | null,
  options: Partial<LanePoolOptions> = {},
): Promise<Link> {
  const { log } = memoryLog();
  let lanes: Lanes | null = null;
  const pool = new LanePool({
    requestMore: (count) => lanes?.add(count),
    parkedAtFirst: 4,
    maxLanes: 64,
    mayGrow: () => true,
    maxWaiting: 1000,
    waitTimeoutMs: 5000,
    shrinkAfterMs: 60_000,
    doneTimeoutMs: 500,
    ...options,
  });
  const key = "lane-key";
  const server = startLaneServer({
    listen: { host: "127.0.0.1", port: 0 },
    tls: null,
    log,
    worker: (id) => (id === "w" ? { pool, key, heard() {} } : null),
  });
  lanes = startLanes({
    address: () => ({ url: `ws://127.0.0.1:${server.address.port}`, ca: null, key }),
    workerId: "w",
    log,
    maxLanes: 64,
    engine: (number) =>
      number === "1" && port !== null
        ? { url: `http://127.0.0.1:${port}`, apiKey: "engine-key" }
        : null,
  });
  const first = options.parkedAtFirst ?? 4;
  lanes.add(first);
  await waitFor(() => pool.parked === first);
  return {
    pool,
    lanes,
    port: server.address.port,
    send: (request = {}) =>
      ask(pool.upstream("1"), {
        path: "/v1/x?y=1",
        method: "POST",
        host: null,
        fields: "content-type: application/json\r\n",
        body: new Uint8Array(Buffer.from('{"a":1}')),
        length: null,
        fresh: false,
        signal: new AbortController().signal,
        ...request,
      }),
    async [Symbol.asyncDispose]() {
      lanes?.close();
      pool.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** A worker that is a session and lanes to an engine. */
export async function laneWorker(
  head: TestHead,
  options: { port: number; models: string[]; hello?: Partial<Hello> },
): Promise<FakeWorker> {
  let address: LaneAddress | null = null;
  let lanes: Lanes | null = null;
  const worker = fakeWorker(head, {
    ...options,
    hello: { data: "lane", ...options.hello },
    onMessage(message) {
      if (message.message === "welcome") {
        const { lanePort, laneKey } = message.welcome;
        const { host } = head.head.sessionAddress;
        address = { url: `ws://${host}:${lanePort}/`, ca: null, key: laneKey };
        lanes?.add(message.welcome.lanes);
      } else if (message.message === "openLanes") lanes?.add(message.openLanes.count);
    },
  });
  lanes = startLanes({
    workerId: worker.id,
    address: () => address,
    maxLanes: 512,
    log: memoryLog().log,
    engine: () => ({ url: `http://127.0.0.1:${options.port}`, apiKey: null }),
  });
  const end = worker[Symbol.asyncDispose].bind(worker);
  return Object.assign(worker, {
    async [Symbol.asyncDispose]() {
      lanes?.close();
      await end();
    },
  });
}
