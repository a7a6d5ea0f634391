import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeFrame,
  encodeFrame,
  LANE_PIECE_BYTES,
  type LaneFrame,
  MAX_LANE_FRAME_BYTES,
  MAX_LANE_HEAD_CHARS,
} from "../../src/protocol/lane-frames.ts";

const NUMBER = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const NAME = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}$/);
const VALUE = fc.stringMatching(/^[\t\x20-\x7e\x80-\xff]{0,40}$/);
const LOWER_NAME = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9a-z-]{1,20}$/);
const FIELDS = fc.array(fc.tuple(LOWER_NAME, VALUE), { maxLength: 8 });
const LINES = fc
  .array(
    fc.tuple(NAME, VALUE).map(([name, value]) => `x-${name}: ${value}\r\n`),
    { maxLength: 8 },
  )
  .map((lines) => lines.join(""));
const PATH = fc.stringMatching(/^\/[\x21-\x7e]{0,60}$/);
const BYTES = fc.uint8Array({ maxLength: 200 });
const COUNT = fc.integer({ min: 0, max: 999_999_999_999_999 });
const TEXT = fc.string({ unit: "grapheme", maxLength: 60 });

const FRAME: fc.Arbitrary<LaneFrame> = fc.oneof(
  fc.record({
    kind: fc.constant("request" as const),
    number: NUMBER,
    head: fc.record({
      engine: fc.stringMatching(/^[!-~]{1,8}$/),
      method: fc.stringMatching(/^[A-Z]{1,10}$/),
      path: PATH,
      host: fc.option(fc.constantFrom("engine:8000", "[::1]:8000")),
      fields: LINES,
      length: fc.option(COUNT),
      fresh: fc.boolean(),
    }),
    bytes: BYTES,
    isLast: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("answer" as const),
    number: NUMBER,
    head: fc.record({ status: fc.integer({ min: 200, max: 599 }), fields: FIELDS }),
    bytes: BYTES,
    isLast: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("error" as const),
    number: NUMBER,
    error: fc.record({ code: fc.stringMatching(/^[!-~]{1,20}$/), message: TEXT }),
  }),
  fc.record({
    kind: fc.constant("body" as const),
    number: NUMBER,
    bytes: BYTES,
    isLast: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("credit" as const), number: NUMBER, count: NUMBER }),
  fc.record({
    kind: fc.constantFrom("cancel" as const, "done" as const),
    number: NUMBER,
  }),
);

/** What the receiver goes on to do with a frame; throws where it would. */
function use(frame: LaneFrame): void {
  expect(Number.isInteger(frame.number) && frame.number >= 0 && frame.number < 2 ** 32).toBe(true);
  switch (frame.kind) {
    case "request": {
      const { path, method, fields, length } = frame.head;
      expect(new URL(`http://127.0.0.1:8000${path}`).host).toBe("127.0.0.1:8000");
      expect(method).toMatch(/^[A-Z]+$/);
      expect(length === null || (Number.isSafeInteger(length) && length >= 0)).toBe(true);
      expect(path).not.toMatch(/[^\x21-\x7e]/);
      for (const line of fields.split("\r\n").slice(0, -1)) {
        expect(line).toMatch(/^[^\s:]+: [^\r\n]*$/);
        expect(line).not.toMatch(/^(host|content-length|transfer-encoding|connection):/i);
      }
      expect(fields === "" || fields.endsWith("\r\n")).toBe(true);
      break;
    }
    case "answer":
      void new Headers(frame.head.fields.map(([name, value]): [string, string] => [name, value]));
      expect(frame.head.status >= 200 && frame.head.status <= 599).toBe(true);
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
  const content = new Uint8Array([1, 2, 3]);
  const bytes = encodeFrame({ kind: "body", number: 7, bytes: content, isLast: true });
  const larger = new Uint8Array(bytes.length + 20);
  larger.set(bytes, 11);
  const decoded = decodeFrame(larger.subarray(11, 11 + bytes.length));
  expect(decoded).toMatchObject({ kind: "body", number: 7 });
  expect(decoded?.kind === "body" && [...decoded.bytes]).toEqual([1, 2, 3]);
});

test("random bytes are no frame, or one that can be worked with", () => {
  const kind = fc.integer({ min: 0, max: 8 });
  fc.assert(
    fc.property(kind, fc.uint8Array({ maxLength: 400 }), (first, rest) => {
      const frame = decodeFrame(Uint8Array.from([first, ...rest]));
      if (frame) use(frame);
    }),
    { numRuns: 1000 },
  );
});

test("random text as a head is no frame, or one that can be worked with", () => {
  const odd = fc.oneof(
    fc.string({ unit: "binary", maxLength: 12 }),
    fc.constantFrom("1", "GET", "-", "fresh", "/", "//evil/x", "/\\evil", "200", "999", "\r\n"),
    LINES,
  );
  fc.assert(
    fc.property(fc.constantFrom(1, 5, 6), fc.array(odd, { maxLength: 9 }), (kind, parts) => {
      for (const between of [" ", "\r\n", ""]) {
        const frame = decodeFrame(headed(kind, parts.join(between)));
        if (frame) use(frame);
      }
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

/** A frame of its kind: with the length of its head where it has one. */
function headed(kind: number, text: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(text);
  const { length } = bytes;
  const prefix = kind === 6 ? [] : [length, length >> 8, length >> 16, length >> 24];
  return Uint8Array.from([kind, 0, 1, 0, 0, 0, ...prefix, ...bytes]);
}
const request = (line: string, fields = "") => headed(1, `${line}\r\n${fields}`);
const requestWith = (fields: string) => request("1 GET 0 - - /", fields);
const answer = (status: string, fields = "") => headed(5, `${status}\r\n${fields}`);

test("what is changed below is a frame as it is", () => {
  expect(decodeFrame(requestWith("a: b\r\n"))?.kind).toBe("request");
  expect(decodeFrame(answer("200", "a: b\r\n"))?.kind).toBe("answer");
});

test.each<[string, Uint8Array]>([
  ["nothing", new Uint8Array()],
  ["less than its number", Uint8Array.from([3, 0, 1, 0, 0])],
  ["an unknown kind", Uint8Array.from([8, 0, 1, 0, 0, 0])],
  ["an unknown flag", Uint8Array.from([3, 2, 1, 0, 0, 0])],
  ["a cancel with a flag", Uint8Array.from([2, 1, 1, 0, 0, 0])],
  ["a done with more", Uint8Array.from([7, 0, 1, 0, 0, 0, 0])],
  ["one byte too many", new Uint8Array(MAX_LANE_FRAME_BYTES + 1).fill(3)],
  ["credit of three bytes", Uint8Array.from([4, 0, 1, 0, 0, 0, 1, 1, 1])],
  ["credit of five bytes", Uint8Array.from([4, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1])],
  ["a head without its length", Uint8Array.from([1, 0, 1, 0, 0, 0, 1, 0, 0])],
  [
    "a head that is longer than the frame",
    Uint8Array.from([1, 0, 1, 0, 0, 0, 3, 0, 0, 0, 123, 125]),
  ],
  ["a head of 4 GiB", Uint8Array.from([5, 0, 1, 0, 0, 0, 255, 255, 255, 255, 123, 125])],
  ["a head without its line's end", headed(1, "1 GET 0 - - /")],
  ["an answer without its line's end", headed(5, "200")],
  ["a request without a path", request("1 GET 0 - -")],
  ["a request with a word more", request("1 GET 0 - - / HTTP/1.1")],
  ["a method in small letters", request("1 get 0 - - /")],
  ["a path to another host", request("1 GET 0 - - http://elsewhere/")],
  ["a path that is part of the host's name", request("1 GET 0 - - @elsewhere/")],
  ["a path beyond ASCII", request("1 GET 0 - - /\u00e9")],
  ["a length below nothing", request("1 GET -1 - - /")],
  ["a length that is not whole", request("1 GET 1.5 - - /")],
  ["a length of twenty digits", request(`1 GET ${"1".repeat(20)} - - /`)],
  ["a freshness that is none", request("1 GET 0 yes - /")],
  ["a field without its line's end", requestWith("a: b")],
  ["a field with half a line's end", requestWith("a: b\nc: d\r\n")],
  ["a field with a zero byte", requestWith("a: \0\r\n")],
  ["a field beyond Latin-1", requestWith("a: \u0100\r\n")],
  ["a field that is no UTF-8", headed(5, Buffer.from("200\r\na: \xff\r\n", "latin1"))],
  ["a field's name with a space", requestWith("a b: c\r\n")],
  ["a field without a value", requestWith("a\r\n")],
  ["an end of the head within the fields", requestWith("a: b\r\n\r\nGET / HTTP/1.1\r\n")],
  ["a length of its own", requestWith("a: b\r\nContent-Length: 5\r\n")],
  ["a framing of its own", requestWith("transfer-encoding: chunked\r\n")],
  ["a host among the fields", requestWith("host: a\r\n")],
  ["an answer's field with a line break", answer("200", "a: b\rc\r\n")],
  ["an answer's field's name with a space", answer("200", "a b: c\r\n")],
  ["an answer's field's name in capitals", answer("200", "A: c\r\n")],
  ["an answer's field without a value", answer("200", "a\r\n")],
  ["too many fields", answer("200", "a: b\r\n".repeat(257))],
  ["a status that is none", answer("700")],
  ["an answer in between", answer("101")],
  ["a status in words", answer("ok")],
  ["an error without words", headed(6, "ECONNRESET")],
  ["an error without a code", headed(6, " it broke")],
])("%s is no frame", (_, bytes) => {
  expect(decodeFrame(bytes)).toBe(null);
});

test("fields of any size are looked at in time that grows with them", () => {
  const line = `x: ${"a".repeat(90)}\r\n`;
  const frames = ["", "x", "\0"].flatMap((end) =>
    [line.repeat(1000), "a".repeat(100_000)].flatMap((fields) => [
      requestWith(fields + end),
      answer("200", fields + end),
    ]),
  );
  const started = performance.now();
  for (const frame of frames) decodeFrame(frame);
  expect(performance.now() - started).toBeLessThan(500);
});

test("the largest body that is allowed is a frame", () => {
  const bytes = new Uint8Array(MAX_LANE_FRAME_BYTES).fill(3);
  bytes[1] = 0;
  const frame = decodeFrame(bytes);
  expect(frame?.kind === "body" && frame.bytes.length).toBe(MAX_LANE_FRAME_BYTES - 6);
});

test("the longest head that goes by lane fits beside a piece of its body, whatever is in it", () => {
  const piece = new Uint8Array(LANE_PIECE_BYTES);
  for (const char of ["\u00ff", '"', "\t"]) {
    const value = char.repeat(MAX_LANE_HEAD_CHARS - 6);
    const head = {
      ...{ engine: "1", method: "GET", path: "/", host: null },
      ...{ fields: `x: ${value}\r\n`, length: 0, fresh: false },
    };
    const sent = encodeFrame({ kind: "request", number: 1, head, bytes: piece, isLast: true });
    expect(decodeFrame(sent)).toMatchObject({ kind: "request", head });
  }
});
