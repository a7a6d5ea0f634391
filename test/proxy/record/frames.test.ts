import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  endsFrame,
  formatOf,
  frameData,
  framesFromEnd,
  lastFrameEnd,
  splitFrames,
  type StreamFormat,
} from "../../../src/proxy/record/frames.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test.each([
  ["text/event-stream", "sse"],
  ["text/event-stream; charset=utf-8", "sse"],
  ["application/x-ndjson", "ndjson"],
  ["application/jsonl", "ndjson"],
  ["application/json", null],
  ["", null],
])("the content-type %p is %p", (type, format) => {
  expect(formatOf({ status: 200, fields: [["content-type", type]] })).toBe(format as StreamFormat);
});

test("a stream that is encoded cannot be read", () => {
  const encodedAs = (coding: string) =>
    formatOf({
      status: 200,
      fields: [
        ["content-type", "text/event-stream"],
        ["content-encoding", coding],
      ],
    });
  expect(encodedAs("gzip")).toBeNull();
  expect(encodedAs("identity")).toBe("sse");
});

test.each([
  ["data: 1\n\n", true],
  ["data: 1\r\n\r\n", true],
  ["data: 1\r\r", true],
  ["\n\n", true],
  ["data: 1\n", false],
  ["data: 1\r\n", false],
  ["data: 1\r\n\r", false],
  ["data: 1\n\nd", false],
  ["data: 1\nd", false],
  ["data: 1\r", false],
  ["", false],
  ["\n", false],
])("%j ends where an event does: %p", (text, ends) => {
  expect(endsFrame(bytes(text), "sse")).toBe(ends);
});

test.each([
  ["sse", "data: 1\n\ndata: 2", 9],
  ["sse", "data: 1\n\ndata: 2\r\n\r\n", 20],
  ["sse", "data: 1", 0],
  ["sse", "", 0],
  ["ndjson", '{"a":1}\n{"b"', 8],
  ["ndjson", '{"a"', 0],
] as const)("%s %j: the last frame ends at %p", (format, text, end) => {
  expect(lastFrameEnd(bytes(text), format)).toBe(end);
});

test("data of events: lines joined, comments and names left out, one space taken off", () => {
  const text = ": hi\n\nevent: a\ndata: 1\ndata:2\n\ndata:  x\r\n\r\nid: 7\rdata: y\r\rdata: last";
  expect(frameData(text, "sse")).toEqual(["1\n2", " x", "y", "last"]);
  expect(frameData('{"a":1}\n\n{"b":2}', "ndjson")).toEqual(['{"a":1}', '{"b":2}']);
});

const event = fc
  .tuple(
    fc.array(fc.constantFrom("data: x", "data:", ": c", "event: e", "data: \u00e9\ud83d\ude00"), {
      minLength: 1,
      maxLength: 4,
    }),
    fc.constantFrom("\n", "\r\n", "\r"),
  )
  .map(([lines, end]) => lines.map((line) => line + end).join("") + end);

test("frames are split at their ends and nowhere else, whichever line ends they have", () => {
  const property = fc.property(fc.array(event, { maxLength: 8 }), (events) => {
    const whole = bytes(events.join(""));
    const frames = splitFrames(whole, "sse");
    expect(frames.map((frame) => new TextDecoder().decode(frame))).toEqual(events);
    for (const frame of frames) expect(endsFrame(frame, "sse")).toBe(true);
    expect(lastFrameEnd(whole, "sse")).toBe(whole.length);
  });
  fc.assert(property, { numRuns: 500 });
});

test("no bytes make the scanners throw, and split frames are the bytes again", () => {
  const format = fc.constantFrom<StreamFormat[]>("sse", "ndjson");
  const noise = fc.uint8Array({ maxLength: 64 }).map((list) => list.map((byte) => byte % 16));
  const property = fc.property(noise, format, (list, kind) => {
    expect(Buffer.concat(splitFrames(list, kind)).equals(list)).toBe(true);
    const end = lastFrameEnd(list, kind);
    if (endsFrame(list, kind)) expect(end).toBe(list.length);
    if (end > 0) expect(endsFrame(list.subarray(0, end), kind)).toBe(true);
    frameData(new TextDecoder().decode(list), kind);
  });
  fc.assert(property, { numRuns: 2000 });
});

test("frames read from the end are those read from the beginning, the other way round", () => {
  const end = fc.constantFrom("\n\n", "\r\n\r\n", "\r\r");
  const line = fc.constantFrom("data: 1", "data:2", "data: [DONE]", ": ping", "event: x", "data: ");
  const event = fc.tuple(fc.array(line, { minLength: 1, maxLength: 3 }), end);
  const sse = fc.array(event.map(([lines, gap]) => lines.join(gap.slice(0, gap.length / 2)) + gap));
  const property = fc.property(sse, fc.nat(3), (events, cut) => {
    const text = events.join("");
    const whole = text.slice(0, text.length - cut);
    const all = bytes(whole);
    const found = [...framesFromEnd(all, "sse")];
    expect(found.map(({ data }) => data)).toEqual(frameData(whole, "sse").reverse());
    for (const { at } of found) expect(lastFrameEnd(all.subarray(0, at), "sse")).toBe(at);
  });
  fc.assert(property, { numRuns: 1000 });
  const lines = bytes('{"a":1}\n\n{"b":2}\n{"c"');
  expect([...framesFromEnd(lines, "ndjson")]).toEqual([
    { data: '{"c"', at: 17 },
    { data: '{"b":2}', at: 9 },
    { data: '{"a":1}', at: 0 },
  ]);
});
