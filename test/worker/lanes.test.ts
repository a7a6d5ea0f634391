import { expect, test } from "bun:test";
import type { LaneAddress } from "../../src/worker/lanes.ts";
import { startLanes } from "../../src/worker/lanes.ts";
import { encodeFrame } from "../../src/protocol/lane-frames.ts";
import { memoryLog } from "../helpers/cluster.ts";
import { startEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";

/** A head that takes every lane and says what the test says on the first. */
function laneHead() {
  const sockets: Bun.ServerWebSocket<undefined>[] = [];
  const server = Bun.serve<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, own) => (own.upgrade(request) ? undefined : new Response("", { status: 426 })),
    websocket: {
      open: (socket) => void sockets.push(socket),
      message() {},
      close: (socket) => void sockets.splice(sockets.indexOf(socket), 1),
    },
  });
  return {
    url: `ws://127.0.0.1:${server.port}`,
    sockets,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

test("free lanes of an earlier session close after their time, busy ones and new ones live", async () => {
  await using engine = startEngine(() => new Promise<Response>(() => {}));
  await using head = laneHead();
  let address: LaneAddress = { url: head.url, ca: null, key: "first" };
  const lanes = startLanes({
    address: () => address,
    workerId: "w",
    log: memoryLog().log,
    maxLanes: 16,
    oldLaneMs: 150,
    engine: () => ({ url: `http://127.0.0.1:${engine.port}`, apiKey: null }),
  });
  lanes.add(3);
  await waitFor(() => head.sockets.length === 3);
  const [busy] = head.sockets;
  busy?.send(
    encodeFrame({
      kind: "request",
      number: 1,
      head: {
        ...{ engine: "1", method: "GET", path: "/", host: null, fields: "" },
        ...{ length: 0, fresh: false },
      },
      bytes: new Uint8Array(),
      isLast: true,
    }),
  );
  await waitFor(() => engine.seen.length === 1);
  address = { ...address, key: "second" };
  lanes.add(2);
  await waitFor(() => head.sockets.length === 5);
  await waitFor(() => head.sockets.length === 3);
  expect([lanes.open, busy?.readyState, engine.aborted]).toEqual([3, WebSocket.OPEN, 0]);
  // More lanes of the same session start no new time.
  lanes.add(1);
  await waitFor(() => head.sockets.length === 4);
  await Bun.sleep(300);
  expect(lanes.open).toBe(4);
  lanes.close();
  await waitFor(() => head.sockets.length === 0 && engine.aborted === 1);
});

test("lanes that were closed do not come back, and no more than the limit are opened", async () => {
  await using head = laneHead();
  const lanes = startLanes({
    address: () => ({ url: head.url, ca: null, key: "k" }),
    workerId: "w",
    log: memoryLog().log,
    maxLanes: 2,
    engine: () => null,
  });
  lanes.add(5);
  await waitFor(() => head.sockets.length === 2);
  expect(lanes.open).toBe(2);
  lanes.close();
  lanes.add(1);
  await waitFor(() => head.sockets.length === 0);
  expect(lanes.open).toBe(0);
});
