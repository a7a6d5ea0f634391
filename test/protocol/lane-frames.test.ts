import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeFrame,
  encodeFrame,
  type LaneFrame,
  MAX_LANE_FRAME_BYTES,
} from "../../src/protocol/lane-frames.ts";

const NUMBER = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const NAME = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}$/);
const VALUE = fc.stringMatching(/^[\t\x20-\x7e\x80-\xff]{0,40}$/);
const HEADERS = fc.array(fc.tuple(NAME, VALUE), { maxLength: 8 });
const COUNT = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const TEXT = fc.string({ unit: "grapheme", maxLength: 60 });

const FRAME: fc.Arbitrary<LaneFrame> = fc.oneof(
  fc.record({
    kind: fc.constant("request" as const),
    number: NUMBER,
    head: fc.record({
      engine: TEXT,
      method: fc.stringMatching(/^[A-Z]{1,10}$/),
      path: TEXT.map((text) => `/${text}`),
      headers: HEADERS,
      length: fc.option(COUNT),
      fresh: fc.boolean(),
    }),
  }),
  fc.record({
    kind: fc.constant("response" as const),
    number: NUMBER,
    head: fc.record({ status: fc.integer({ min: 200, max: 599 }), headers: HEADERS }),
  }),
  fc.record({
    kind: fc.constant("error" as const),
    number: NUMBER,
    error: fc.record({ code: TEXT, message: TEXT }),
  }),
  fc.record({
    kind: fc.constant("body" as const),
    number: NUMBER,
    bytes: fc.uint8Array({ maxLength: 200 }),
  }),
  fc.record({ kind: fc.constant("credit" as const), number: NUMBER, count: NUMBER }),
  fc.record({
    kind: fc.constantFrom("cancel" as const, "end" as const, "done" as const),
    number: NUMBER,
  }),
);

/** What the receiver goes on to do with a frame; throws where it would. */
function use(frame: LaneFrame): void {
  expect(Number.isInteger(frame.number) && frame.number >= 0 && frame.number < 2 ** 32).toBe(true);
  switch (frame.kind) {
    case "request": {
      const { path, method, headers, length } = frame.head;
      expect(new URL(`http://127.0.0.1:8000${path}`).host).toBe("127.0.0.1:8000");
      expect(method).toMatch(/^[A-Z]+$/);
      expect(length === null || (Number.isSafeInteger(length) && length >= 0)).toBe(true);
      void new Headers(headers);
      break;
    }
    case "response":
      void new Response(null, {
        status: frame.head.status,
        headers: new Headers(frame.head.headers),
      });
      break;
    case "credit":
      expect(Number.isInteger(frame.count) && frame.count >= 0 && frame.count < 2 ** 32).toBe(true);
      break;
    case "body":
      expect(frame.bytes.length).toBeLessThanOrEqual(MAX_LANE_FRAME_BYTES);
      break;
    case "error":
      expect([typeof frame.error.code, typeof frame.error.message]).toEqual(["string", "string"]);
      break;
    case "cancel":
    case "end":
    case "done":
  }
}

test("every frame round-trips", () => {
  fc.assert(
    fc.property(FRAME, (frame) => {
      const decoded = decodeFrame(encodeFrame(frame));
      expect(decoded as unknown).toEqual(frame);
      use(frame);
    }),
  );
});

test("a body is read where it lies, wherever in a larger buffer the message does", () => {
  const bytes = encodeFrame({ kind: "body", number: 7, bytes: new Uint8Array([1, 2, 3]) });
  const larger = new Uint8Array(bytes.length + 20);
  larger.set(bytes, 11);
  const decoded = decodeFrame(larger.subarray(11, 11 + bytes.length));
  expect(decoded).toMatchObject({ kind: "body", number: 7 });
  expect(decoded?.kind === "body" && [...decoded.bytes]).toEqual([1, 2, 3]);
});

test("random bytes are no frame, or one that can be worked with", () => {
  const kind = fc.integer({ min: 0, max: 10 });
  fc.assert(
    fc.property(kind, fc.uint8Array({ maxLength: 400 }), (first, rest) => {
      const frame = decodeFrame(Uint8Array.from([first, ...rest]));
      if (frame) use(frame);
    }),
    { numRuns: 1000 },
  );
});

test("random JSON as a head is no frame, or one that can be worked with", () => {
  const odd = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom<unknown>(
      200,
      999,
      -1,
      1.5,
      1e300,
      "",
      "GET",
      "/",
      "//evil/x",
      "/\\evil",
      [],
      {},
      true,
    ),
    fc.array(fc.array(fc.string({ unit: "binary" }), { maxLength: 3 }), { maxLength: 4 }),
    HEADERS,
  );
  const head = fc.record(
    {
      engine: odd,
      method: odd,
      path: odd,
      headers: odd,
      length: odd,
      fresh: odd,
      status: odd,
      code: odd,
      message: odd,
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.constantFrom(1, 6, 7), fc.oneof(head, fc.jsonValue()), (kind, value) => {
      const text = new TextEncoder().encode(JSON.stringify(value));
      const frame = decodeFrame(Uint8Array.from([kind, 1, 0, 0, 0, ...text]));
      if (frame) use(frame);
    }),
    { numRuns: 1000 },
  );
});

test("a cut or changed frame is no frame, or one that can be worked with", () => {
  fc.assert(
    fc.property(FRAME, fc.nat(), fc.integer({ min: 0, max: 255 }), (frame, place, value) => {
      const bytes = encodeFrame(frame);
      const at = place % bytes.length;
      const cut = decodeFrame(bytes.subarray(0, at));
      if (cut) use(cut);
      bytes[at] = value;
      const changed = decodeFrame(bytes);
      if (changed) use(changed);
    }),
    { numRuns: 500 },
  );
});

const json = (kind: number, text: string) =>
  Uint8Array.from([kind, 1, 0, 0, 0, ...new TextEncoder().encode(text)]);
const request = (more: object) =>
  json(
    1,
    JSON.stringify({ engine: "1", method: "GET", path: "/", headers: [], length: 0, ...more }),
  );
const response = (more: object) => json(6, JSON.stringify({ status: 200, headers: [], ...more }));

test.each<[string, Uint8Array]>([
  ["nothing", new Uint8Array()],
  ["less than a header", Uint8Array.from([3, 1, 0, 0])],
  ["an unknown kind", Uint8Array.from([9, 1, 0, 0, 0])],
  ["one byte too many", new Uint8Array(MAX_LANE_FRAME_BYTES + 1).fill(3)],
  ["credit of three bytes", Uint8Array.from([5, 1, 0, 0, 0, 1, 1, 1])],
  ["credit of five bytes", Uint8Array.from([5, 1, 0, 0, 0, 1, 1, 1, 1, 1])],
  ["a head that is no JSON", json(1, "{")],
  ["a head that is no UTF-8", Uint8Array.from([6, 1, 0, 0, 0, 0x22, 0xff, 0x22])],
  ["JSON nested without end", json(6, "[".repeat(100_000))],
  ["a method in small letters", request({ method: "get" })],
  ["a path to another host", request({ path: "http://elsewhere/" })],
  ["a path that is part of the host's name", request({ path: "@elsewhere/" })],
  ["a length below nothing", request({ length: -1 })],
  ["a length that is not whole", request({ length: 1.5 })],
  ["a header with a line break", request({ headers: [["a", "b\r\nc: d"]] })],
  ["a header's name with a space", request({ headers: [["a b", "c"]] })],
  ["a header without a value", request({ headers: [["a"]] })],
  ["too many headers", request({ headers: Array.from({ length: 257 }, () => ["a", "b"]) })],
  ["a status that is none", response({ status: 700 })],
  ["an answer in between", response({ status: 101 })],
  ["a status in words", response({ status: "200" })],
  ["an error without words", json(7, '{"code":"ECONNRESET"}')],
])("%s is no frame", (_, bytes) => {
  expect(decodeFrame(bytes)).toBe(null);
});

test("the largest body that is allowed is a frame", () => {
  const frame = decodeFrame(new Uint8Array(MAX_LANE_FRAME_BYTES).fill(3));
  expect(frame?.kind === "body" && frame.bytes.length).toBe(MAX_LANE_FRAME_BYTES - 5);
});
