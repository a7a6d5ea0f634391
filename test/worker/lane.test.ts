import { expect, test } from "bun:test";
import {
  decodeFrame,
  LANE_CREDIT_BYTES,
  LANE_PIECE_BYTES,
  type LaneFrame,
} from "../../src/protocol/lane-frames.ts";
import type { AnswerSink, HttpRequest } from "../../src/util/http/exchange.ts";
import { createWorkerLane } from "../../src/worker/lane.ts";
import { waitFor } from "../helpers/wait.ts";

/** An engine that is the test: what it was asked, and whom it tells. */
interface Asked {
  request: HttpRequest;
  sink: AnswerSink;
  calls: string[];
}

/** A lane at the worker, whose head and engine are the test. */
function workerLane(apiKey: string | null = null) {
  const sent: LaneFrame[] = [];
  const faults: string[] = [];
  const asked: Asked[] = [];
  const lane = createWorkerLane({
    send(bytes) {
      const frame = decodeFrame(new Uint8Array(bytes));
      if (frame !== null) sent.push(frame);
    },
    close: (fault) => faults.push(fault),
    target: (engine) =>
      engine !== "1"
        ? null
        : {
            apiKey,
            upstream(request, sink) {
              const calls: string[] = [];
              asked.push({ request, sink, calls });
              return {
                pause: () => calls.push("pause"),
                resume: () => calls.push("resume"),
                abort: () => calls.push("abort"),
              };
            },
          },
  });
  return {
    ...{ lane, sent, faults, asked },
    bytes: () => sent.reduce((sum, frame) => sum + ("bytes" in frame ? frame.bytes.length : 0), 0),
    /** The engine that was asked last. */
    engine() {
      const last = asked.at(-1);
      if (!last) throw new Error("no engine was asked");
      return last;
    },
  };
}

const NO_BYTES = new Uint8Array();
function request(number: number, more: Partial<LaneFrame & { kind: "request" }> = {}): LaneFrame {
  const head = {
    ...{ engine: "1", method: "POST", path: "/x", host: null },
    ...{ fields: "", length: null, fresh: false },
  };
  return { kind: "request", number, head, bytes: NO_BYTES, isLast: true, ...more };
}
const body = (number: number, size: number, isLast = false): LaneFrame => ({
  ...{ kind: "body", number, bytes: new Uint8Array(size), isLast },
});

test("what one read of the engine's socket brings is one frame", async () => {
  const { lane, sent, engine } = workerLane();
  lane.take(request(1));
  const { sink } = engine();
  sink.head({ status: 200, fields: [] });
  sink.data(Buffer.from("a"));
  sink.data(Buffer.from("b"));
  await Bun.sleep(0);
  sink.data(Buffer.from("c"));
  await Bun.sleep(0);
  sink.data(Buffer.from("d"));
  sink.end();
  expect(lane.busy).toBe(false);
  expect(
    sent.map((frame) => [frame.kind, "bytes" in frame && String(Buffer.from(frame.bytes))]),
  ).toEqual([
    ["answer", "ab"],
    ["body", "c"],
    ["body", "d"],
  ]);
  expect(sent.map((frame) => "isLast" in frame && frame.isLast)).toEqual([false, false, true]);
});

test.each<[string, string | null, string, string]>([
  [
    "is left as it is without a key",
    null,
    "a: b\r\nauthorization: Bearer x\r\n",
    "a: b\r\nauthorization: Bearer x\r\n",
  ],
  [
    "is replaced by the engine's key",
    "k",
    "Authorization: Bearer x\r\na: b\r\n",
    "a: b\r\nauthorization: Bearer k\r\n",
  ],
  [
    "comes with the engine's key",
    "k",
    "a: authorization: b\r\n",
    "a: authorization: b\r\nauthorization: Bearer k\r\n",
  ],
])("the client's authorization %s", (_, key, fields, expected) => {
  const { lane, engine } = workerLane(key);
  const { head } = request(1) as LaneFrame & { kind: "request" };
  lane.take(request(1, { head: { ...head, fields } }));
  expect(engine().request.fields).toBe(expected);
});

test("without credit the engine is paused; what came waits, and its end or failure with it", async () => {
  for (const end of ["end", "fail"] as const) {
    const { lane, sent, bytes, engine } = workerLane();
    lane.take(request(1));
    const { sink, calls } = engine();
    sink.head({ status: 200, fields: [] });
    sink.data(new Uint8Array(LANE_CREDIT_BYTES + 100));
    await Bun.sleep(0);
    expect([bytes(), calls]).toEqual([LANE_CREDIT_BYTES, ["pause"]]);
    expect(sent.every((frame) => "bytes" in frame && frame.bytes.length <= LANE_PIECE_BYTES)).toBe(
      true,
    );
    if (end === "end") sink.end();
    else sink.fail(Object.assign(new Error("broke"), { code: "ECONNRESET" }));
    lane.take({ kind: "credit", number: 1, count: 60 });
    expect([bytes(), lane.busy]).toEqual([LANE_CREDIT_BYTES + 60, true]);
    lane.take({ kind: "credit", number: 1, count: 60 });
    expect([bytes(), lane.busy]).toEqual([LANE_CREDIT_BYTES + 100, false]);
    expect(sent.at(-1)).toMatchObject(end === "end" ? { isLast: true } : { kind: "error" });
  }
});

test("an engine that was paused is read on once all has gone", async () => {
  const { lane, engine } = workerLane();
  lane.take(request(1));
  const { sink, calls } = engine();
  sink.head({ status: 200, fields: [] });
  sink.data(new Uint8Array(LANE_CREDIT_BYTES + 100));
  await Bun.sleep(0);
  lane.take({ kind: "credit", number: 1, count: 50 });
  expect(calls).toEqual(["pause"]);
  lane.take({ kind: "credit", number: 1, count: 50 });
  expect(calls).toEqual(["pause", "resume"]);
});

test("a cancel aborts the engine's exchange and is answered with done; then the lane is free", () => {
  const { lane, sent, engine, asked } = workerLane();
  lane.take(request(1));
  lane.take({ kind: "cancel", number: 1 });
  lane.take({ kind: "cancel", number: 1 });
  expect([engine().calls, sent, lane.busy]).toEqual([
    ["abort"],
    [{ kind: "done", number: 1 }],
    false,
  ]);
  lane.take(request(2));
  expect(asked.length).toBe(2);
});

test("a lane that closes aborts what runs, and takes no more", () => {
  const { lane, asked, engine } = workerLane();
  lane.take(request(1));
  lane.closed();
  lane.take(request(2));
  expect([engine().calls, asked.length, lane.busy]).toEqual([["abort"], 1, false]);
});

test("an engine that is not there, or answers with too long a head, is an error", async () => {
  const { lane, sent, engine } = workerLane();
  const { head } = request(1) as LaneFrame & { kind: "request" };
  lane.take(request(1, { head: { ...head, engine: "2" } }));
  expect([sent, lane.busy]).toMatchObject([
    [{ kind: "error", error: { code: "ECONNREFUSED" } }],
    false,
  ]);
  lane.take(request(2));
  engine().sink.head({ status: 200, fields: [["a", "x".repeat(40_000)]] });
  await Bun.sleep(0);
  expect([sent.at(-1), engine().calls]).toMatchObject([
    { kind: "error", error: { code: "EPROTO" } },
    ["abort"],
  ]);
});

test("a large body is credited as the engine takes it", async () => {
  const { lane, sent, engine } = workerLane();
  lane.take(request(1, { bytes: new Uint8Array(LANE_PIECE_BYTES), isLast: false }));
  for (let i = 0; i < 3; i += 1) lane.take(body(1, LANE_PIECE_BYTES));
  const { body: stream } = engine().request;
  if (!(stream instanceof ReadableStream)) throw new Error("no stream");
  await Bun.sleep(0);
  expect(sent).toEqual([]);
  const reader = stream.getReader();
  const read = async () => (await reader.read()).value?.length;
  expect([await read(), await read(), await read()]).toEqual(Array(3).fill(LANE_PIECE_BYTES));
  const given = sent.reduce((sum, frame) => sum + (frame.kind === "credit" ? frame.count : 0), 0);
  expect(given).toBeGreaterThanOrEqual(LANE_PIECE_BYTES);
  lane.take(body(1, 5, true));
  expect([await read(), await read(), await read()]).toEqual([LANE_PIECE_BYTES, 5, undefined]);
});

test("an answer that is whole before its request's body is: late pieces are dropped", async () => {
  const { lane, sent, engine, faults } = workerLane();
  lane.take(request(1, { bytes: new Uint8Array(10), isLast: false }));
  engine().sink.head({ status: 413, fields: [] });
  engine().sink.end();
  expect(sent).toMatchObject([{ kind: "answer", isLast: true }]);
  lane.take(body(1, 10));
  lane.take({ kind: "cancel", number: 1 });
  lane.take(request(2));
  lane.take(body(1, 10, true));
  expect([faults, sent.length, lane.busy]).toEqual([[], 1, true]);
});

test.each<[string, LaneFrame[], string]>([
  ["a request within a request", [request(1), request(2)], "out of turn"],
  ["a body after its end", [request(1), body(1, 1)], "after its end"],
  [
    "a body beyond its credit",
    [request(1, { isLast: false }), body(1, LANE_CREDIT_BYTES), body(1, 1)],
    "beyond its credit",
  ],
  ["a done", [request(1), { kind: "done", number: 1 }], "only workers send"],
])("%s breaks the lane and aborts what runs", async (_, frames, words) => {
  const { lane, faults, engine, sent } = workerLane();
  for (const frame of frames) lane.take(frame);
  expect(faults).toEqual([expect.stringContaining(words)]);
  expect([engine().calls, lane.busy]).toEqual([["abort"], false]);
  engine().sink.head({ status: 200, fields: [] });
  await Bun.sleep(0);
  expect(sent).toEqual([]);
});

test.each([
  ["longer", 5, 4],
  ["shorter", 3, 4],
])("a whole body %s than announced breaks the lane", (_, size, length) => {
  const { lane, faults, asked } = workerLane();
  const { head } = request(1) as LaneFrame & { kind: "request" };
  lane.take(request(1, { head: { ...head, length }, bytes: new Uint8Array(size) }));
  expect([faults.length, asked.length]).toEqual([1, 0]);
});

test("an upload that is cancelled breaks off at the engine", async () => {
  const { lane, engine } = workerLane();
  lane.take(request(1, { bytes: new Uint8Array(10), isLast: false }));
  const { body: stream } = engine().request;
  if (!(stream instanceof ReadableStream)) throw new Error("no stream");
  const reader = stream.getReader();
  let failed = false;
  const reading = (async () => {
    for (;;) if ((await reader.read()).done) return;
  })().catch(() => {
    failed = true;
  });
  lane.take({ kind: "cancel", number: 1 });
  await reading;
  await waitFor(() => failed);
});
