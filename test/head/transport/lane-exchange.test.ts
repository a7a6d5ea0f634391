import { expect, test } from "bun:test";
import { LanePool, type LanePoolOptions } from "../../../src/head/transport/lane-pool.ts";
import type { Lane } from "../../../src/head/transport/lane.ts";
import {
  decodeFrame,
  encodeFrame,
  LANE_CREDIT_BYTES,
  type LaneFrame,
} from "../../../src/protocol/lane-frames.ts";
import type { AnswerHead, AnswerSink, HttpRequest } from "../../../src/util/http/exchange.ts";
import { waitFor } from "../../helpers/wait.ts";

/** A lane whose worker is the test, at the head. */
function laneAt(options: Partial<LanePoolOptions> = {}) {
  const sent: LaneFrame[] = [];
  const faults: (string | undefined)[] = [];
  const pool = new LanePool({
    requestMore: () => {},
    ...{ parkedAtFirst: 1, maxLanes: 1, maxWaiting: 2, waitTimeoutMs: 80, doneTimeoutMs: 80 },
    ...{ mayGrow: () => true, shrinkAfterMs: 60_000 },
    ...options,
  });
  let isOpen = true;
  const lane = pool.adopt({
    send(bytes) {
      const frame = decodeFrame(new Uint8Array(bytes));
      if (isOpen && frame !== null) sent.push(frame);
      return isOpen;
    },
    close: (fault) => faults.push(fault),
  });
  if (lane === null) throw new Error("no lane");
  return {
    ...{ pool, lane, sent, faults },
    kinds: () => sent.map(({ kind }) => kind),
    break() {
      isOpen = false;
    },
  };
}

interface Heard {
  events: string[];
  bytes: number;
  errors: unknown[];
}

/** Sends a request and notes what it is told. */
function ask(pool: LanePool, more: Partial<HttpRequest> = {}, act?: Partial<AnswerSink>) {
  const heard: Heard = { events: [], bytes: 0, errors: [] };
  const exchange = pool.upstream("1")(
    {
      ...{ method: "POST", path: "/x", host: null, fields: "a: b\r\n" },
      ...{ body: null, length: null, fresh: false },
      ...more,
    },
    {
      head(head: AnswerHead) {
        heard.events.push(`head ${head.status}`);
        act?.head?.(head);
      },
      data(bytes) {
        heard.events.push("data");
        heard.bytes += bytes.length;
        act?.data?.(bytes);
      },
      end: () => heard.events.push("end"),
      fail(error) {
        heard.events.push("fail");
        heard.errors.push(error);
      },
    },
  );
  return { heard, exchange };
}

const NO_BYTES = new Uint8Array();
const answer = (number: number, isLast = false, bytes: Uint8Array = NO_BYTES): LaneFrame => ({
  ...{ kind: "answer", number, head: { status: 200, fields: [] }, bytes, isLast },
});
const body = (number: number, size: number, isLast = false): LaneFrame => ({
  ...{ kind: "body", number, bytes: new Uint8Array(size), isLast },
});

test("a small request is one frame, and so is its answer", () => {
  const { pool, lane, sent } = laneAt();
  const { heard } = ask(pool, { body: new Uint8Array([1, 2, 3]) });
  expect(sent).toMatchObject([
    { kind: "request", number: 1, isLast: true, head: { fields: "a: b\r\n", length: 3 } },
  ]);
  expect(pool.parked).toBe(0);
  lane.onFrame(answer(1, true, new Uint8Array(5)));
  expect([heard.events, heard.bytes, pool.parked]).toEqual([["head 200", "data", "end"], 5, 1]);
});

test("what is told stops with an abort, also within what one frame brings", () => {
  const { pool, lane, sent } = laneAt();
  const { heard, exchange } = ask(pool, {}, { head: () => exchange.abort() });
  lane.onFrame(answer(1, false, new Uint8Array(5)));
  lane.onFrame(body(1, 5, true));
  expect([heard.events, sent.at(-1)?.kind, pool.parked]).toEqual([["head 200"], "cancel", 1]);
  // The lane is another's by now.
  const next = ask(pool);
  exchange.abort();
  exchange.pause();
  exchange.resume();
  lane.onFrame(answer(2, true));
  expect([next.heard.events, sent.at(-1)?.kind]).toEqual([["head 200", "end"], "request"]);
});

test("an abort within the last frame sends nothing, and the lane lives", () => {
  const { pool, lane, sent } = laneAt();
  const { heard, exchange } = ask(pool, {}, { head: () => exchange.abort() });
  lane.onFrame(answer(1, true, new Uint8Array(5)));
  expect([heard.events, sent.length, pool.parked]).toEqual([["head 200"], 1, 1]);
});

test.each<[string, (lane: Lane) => void, string]>([
  [
    "a second answer",
    (lane) => {
      lane.onFrame(answer(1));
      lane.onFrame(answer(1));
    },
    "a second answer to one request",
  ],
  ["a body before its answer", (lane) => lane.onFrame(body(1, 1)), "a body before its answer"],
  [
    "a first body beyond its credit",
    (lane) => lane.onFrame(answer(1, false, new Uint8Array(LANE_CREDIT_BYTES + 1))),
    "a body beyond its credit",
  ],
])("%s closes the lane with the fault, and fails once", (_, act, fault) => {
  const { pool, lane, faults } = laneAt();
  const { heard } = ask(pool);
  act(lane);
  lane.onClosed();
  lane.onFrame(body(1, 1, true));
  expect(faults).toEqual([fault]);
  expect(heard.errors).toMatchObject([{ code: "LANE_BROKEN" }]);
  expect([heard.events.at(-1), pool.lanes]).toEqual(["fail", 0]);
});

test("a paused answer comes as far as its credit, and goes on with resume", () => {
  const { pool, lane, sent, faults } = laneAt();
  const { heard, exchange } = ask(pool);
  lane.onFrame(answer(1));
  exchange.pause();
  for (let i = 0; i < 4; i += 1) lane.onFrame(body(1, LANE_CREDIT_BYTES / 4));
  expect([heard.bytes, sent.length]).toEqual([LANE_CREDIT_BYTES, 1]);
  exchange.resume();
  expect(sent.at(-1)).toEqual({ kind: "credit", number: 1, count: LANE_CREDIT_BYTES });
  exchange.pause();
  for (let i = 0; i < 4; i += 1) lane.onFrame(body(1, LANE_CREDIT_BYTES / 4));
  expect(faults).toEqual([]);
  lane.onFrame(body(1, 1));
  expect(faults).toEqual(["a body beyond its credit"]);
});

test("what is cancelled is still held to its credit", () => {
  const { pool, lane, faults } = laneAt();
  const { exchange, heard } = ask(pool);
  lane.onFrame(answer(1));
  exchange.abort();
  for (let i = 0; i < 5; i += 1) lane.onFrame(body(1, LANE_CREDIT_BYTES / 4));
  expect([faults, heard.events]).toEqual([["a body beyond its credit"], ["head 200"]]);
});

test.each([
  ["before the answer", []],
  ["within the answer", [answer(1), body(1, 10)]],
])("a worker that never says done after a cancel %s loses the lane", async (_, frames) => {
  const { pool, lane, faults } = laneAt();
  const { heard, exchange } = ask(pool);
  for (const frame of frames) lane.onFrame(frame);
  const events = heard.events.length;
  exchange.abort();
  expect(pool.lanes).toBe(1);
  await waitFor(() => pool.lanes === 0);
  expect([faults, heard.events.length]).toEqual([[undefined], events]);
});

test("a cancel while waiting gives the place to the next, and no lane runs it", async () => {
  const { pool, lane, kinds } = laneAt();
  ask(pool);
  const [first, second, third] = [ask(pool), ask(pool), ask(pool)];
  await Bun.sleep(0);
  // Two may wait.
  expect(third.heard.errors).toMatchObject([{ code: "upstream_unreachable" }]);
  first.exchange.abort();
  lane.onFrame(answer(1, true));
  lane.onFrame(answer(2, true));
  expect([first.heard.events, second.heard.events]).toEqual([[], ["head 200", "end"]]);
  expect(kinds()).toEqual(["request", "request"]);
});

test("who waits too long for a lane is told so, all by one timer", async () => {
  const { pool } = laneAt();
  ask(pool);
  const waiting = [ask(pool), ask(pool)];
  await waitFor(() => waiting.every(({ heard }) => heard.errors.length === 1));
  for (const { heard } of waiting) {
    expect(heard.errors).toMatchObject([{ code: "upstream_unreachable" }]);
  }
});

test("a socket that refuses a frame fails the request, not within the call that sends", async () => {
  const lane = laneAt();
  lane.break();
  const { heard } = ask(lane.pool, { body: new Uint8Array(1_000_000) });
  expect(heard.events).toEqual([]);
  await waitFor(() => heard.events.length === 1);
  expect([heard.errors, lane.pool.lanes]).toMatchObject([[{ code: "LANE_BROKEN" }], 0]);
});

test.each<[string, Partial<HttpRequest>]>([
  ["that is too long for a lane", { fields: `a: ${"x".repeat(40_000)}\r\n` }],
  ["with a line break in its path", { path: "/a\r\nb: c" }],
  ["with a zero byte in a field", { fields: "a: \0\r\n" }],
])("a head %s takes no lane", async (_, more) => {
  const { pool, sent } = laneAt();
  const { heard } = ask(pool, more);
  await Bun.sleep(0);
  expect([heard.errors, sent, pool.parked]).toMatchObject([[{ code: "EINVAL" }], [], 1]);
});

test("a large body waits for credit; an answer before its end stops it", () => {
  const { pool, lane, sent } = laneAt();
  const { heard } = ask(pool, { body: new Uint8Array(1_000_000) });
  const bytes = () =>
    sent.reduce((sum, frame) => sum + ("bytes" in frame ? frame.bytes.length : 0), 0);
  expect([bytes(), sent[0]]).toMatchObject([LANE_CREDIT_BYTES, { head: { length: 1_000_000 } }]);
  lane.onFrame({ kind: "credit", number: 1, count: 100 });
  expect(bytes()).toBe(LANE_CREDIT_BYTES + 100);
  lane.onFrame(answer(1, true));
  lane.onFrame({ kind: "credit", number: 1, count: 100_000 });
  expect([bytes(), heard.events]).toEqual([LANE_CREDIT_BYTES + 100, ["head 200", "end"]]);
});

test("a streamed body ends once, whatever credit comes after it", async () => {
  const { pool, lane, sent } = laneAt();
  ask(pool, { body: streamOf([10], "close").stream });
  const ends = () => sent.filter((frame) => frame.kind === "body" && frame.isLast).length;
  await waitFor(() => ends() === 1);
  for (let i = 0; i < 3; i += 1) lane.onFrame({ kind: "credit", number: 1, count: 100 });
  await Bun.sleep(1);
  expect(ends()).toBe(1);
});

/** A stream, and how it was cancelled. */
function streamOf(pieces: number[], end: "close" | "error" | "open") {
  const left = [...pieces];
  let isCancelled = false;
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const size = left.shift();
        if (size !== undefined) controller.enqueue(new Uint8Array(size));
        else if (end === "close") controller.close();
        else if (end === "error") controller.error(new Error("the client has gone"));
        else await new Promise(() => {});
      },
      cancel() {
        isCancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  return { stream, isCancelled: () => isCancelled };
}

test.each<[string, number[], "close" | "error", number, string]>([
  ["that breaks off", [10], "error", 20, "the client has gone"],
  ["shorter than announced", [10], "close", 20, "a body of 20 bytes"],
  ["longer than announced", [10, 20], "close", 20, "a body of 20 bytes"],
])("a streamed body %s cancels the request and fails it", async (_, pieces, end, length, words) => {
  const { pool, kinds } = laneAt();
  const { heard } = ask(pool, { body: streamOf(pieces, end).stream, length });
  await waitFor(() => heard.errors.length === 1);
  expect(String(heard.errors[0])).toContain(words);
  expect(kinds()).toEqual(["request", "body", "cancel"]);
});

test("a streamed body is cancelled with its answer's end, and with an abort", async () => {
  const { pool, lane } = laneAt();
  const first = streamOf([10], "open");
  const { heard } = ask(pool, { body: first.stream });
  lane.onFrame(answer(1, true));
  await waitFor(first.isCancelled);
  expect(heard.events).toEqual(["head 200", "end"]);
  const second = streamOf([10], "open");
  ask(pool, { body: second.stream }).exchange.abort();
  await waitFor(second.isCancelled);
});

test("frames of an earlier request are dropped", () => {
  const { pool, lane, faults } = laneAt();
  ask(pool);
  lane.onFrame(answer(1, true));
  const { heard } = ask(pool);
  for (const frame of [answer(1), body(1, 10, true), { kind: "done" as const, number: 1 }]) {
    lane.onFrame(frame);
  }
  expect([heard.events, faults, pool.parked]).toEqual([[], [], 0]);
  lane.onFrame(decodeFrame(encodeFrame(answer(2, true))) ?? answer(0));
  expect(heard.events).toEqual(["head 200", "end"]);
});

test("done without an answer, and an error, fail the request and free the lane", () => {
  const { pool, lane } = laneAt();
  const first = ask(pool);
  lane.onFrame({ kind: "done", number: 1 });
  const second = ask(pool);
  lane.onFrame(answer(2));
  lane.onFrame({ kind: "error", number: 2, error: { code: "EODD", message: "odd" } });
  expect(first.heard.errors).toMatchObject([{ code: "ECONNRESET" }]);
  expect([second.heard.events, second.heard.errors, pool.parked]).toMatchObject([
    ["head 200", "fail"],
    [{ code: "EODD" }],
    1,
  ]);
});
