import { expect, test } from "bun:test";
import fc from "fast-check";
import { createStreamWatch, type WatchOptions } from "../../../src/proxy/record/stream-watch.ts";

const SSE: WatchOptions = { format: "sse", dropUsage: false, tailBytes: 65_536 };
const USAGE = 'data: {"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n';
const DONE = "data: [DONE]\n\n";
const token = (text: string) => `data: {"choices":[{"delta":{"content":"${text}"}}]}\n\n`;

function run(options: WatchOptions, pieces: readonly Uint8Array[]) {
  const watch = createStreamWatch(options);
  const out = [...pieces.map((piece) => watch.push(piece)), watch.flush()];
  return { watch, text: Buffer.concat(out.filter((part) => part !== null)).toString() };
}

function pieces(text: string, cuts: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text);
  const at = [...new Set(cuts.map((cut) => cut % bytes.length))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
}

const cuts = fc.array(fc.nat(), { maxLength: 30 });

test("in any split the usage frame goes and everything else stays, and it is read all the same", () => {
  const part = fc.constantFrom(
    token("\u00e9\ud83d\ude00"),
    ": ping\n\n",
    'data: {"choices":[]}\n\n',
    'data: {"choices":[],"usage":null}\n\n',
    'data: {"text":"\\"choices\\":[]"}\n\n',
    "event: x\r\ndata: 1\r\n\r\n",
  );
  const property = fc.property(fc.array(part), cuts, (parts, at) => {
    const plain = parts.join("") + DONE;
    const { text, watch } = run(
      { ...SSE, dropUsage: true },
      pieces(parts.join("") + USAGE + DONE, at),
    );
    expect(text).toBe(plain);
    expect(watch.facts().usage).toEqual({
      input: 3,
      output: 2,
      cachedInput: null,
      reasoning: null,
    });
  });
  fc.assert(property, { numRuns: 1000 });
});

test("any bytes in any split pass as they are where nothing is to be dropped", () => {
  const property = fc.property(fc.uint8Array({ minLength: 1 }), cuts, (noise, at) => {
    const bytes = Buffer.from(noise).toString("latin1");
    for (const dropUsage of [false, true]) {
      expect(run({ ...SSE, dropUsage }, pieces(bytes, at)).text).toBe(bytes);
    }
  });
  fc.assert(property, { numRuns: 1000 });
});

test("nothing is held back where a chunk ends with a frame", () => {
  const watch = createStreamWatch({ ...SSE, dropUsage: true });
  for (const frame of [token("a"), ": ping\n\n", token("b"), DONE]) {
    const chunk = Buffer.from(frame);
    expect(watch.push(chunk)).toBe(chunk);
  }
});

test("a frame without end is let go before it fills the memory", () => {
  const watch = createStreamWatch({ ...SSE, dropUsage: true });
  let passed = 0;
  for (let i = 0; i < 100; i += 1) passed += watch.push(Buffer.alloc(1024, "x"))?.length ?? 0;
  expect(passed).toBeGreaterThan(30 * 1024);
  passed += watch.flush()?.length ?? 0;
  expect(passed).toBe(100 * 1024);
});

test("a long stream keeps its first frame and its end, and no more", () => {
  const first = 'data: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n';
  const last =
    'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}\n\n';
  const frames = [first, ...Array.from({ length: 20_000 }, (_, i) => token(String(i))), last];
  const { watch } = run(
    { ...SSE, tailBytes: 4096 },
    frames.map((frame) => Buffer.from(frame)),
  );
  expect(watch.facts()).toMatchObject({
    usage: { input: 9, output: 7 },
    finishReason: "end_turn",
    error: null,
  });
  expect([watch.chunks, watch.bytes]).toEqual([20_002, frames.join("").length]);
});

test("frames are counted in what was kept and projected from it to the rest", () => {
  const text = token("x").repeat(50) + DONE;
  expect(run(SSE, [Buffer.from(text)]).watch.frames()).toBe(50);
  const many = Array.from({ length: 20_000 }, () => Buffer.from(token("x").repeat(2)));
  const counted = run({ ...SSE, tailBytes: 4096 }, many).watch.frames();
  expect(counted).toBeGreaterThanOrEqual(40_000);
  expect(counted).toBeLessThan(42_000);
  expect(run(SSE, []).watch.frames()).toBe(0);
});

test.each([
  ["sse", token("x") + DONE, true],
  ["sse", 'event: message_stop\ndata: {"type":"message_stop"}\n\n', true],
  ["sse", 'data: {"type":"response.completed"}\n\n', true],
  ["sse", token("x"), false],
  ["sse", "", false],
  ["ndjson", '{"done":false}\n{"done":true}\n', true],
  ["ndjson", '{"done":false}\n{"do', false],
  [null, '{"done":true}', false],
] as const)("%s %j is complete: %p", (format, text, complete) => {
  expect(run({ ...SSE, format }, [Buffer.from(text)]).watch.isComplete()).toBe(complete);
});

test("an error in a stream is told", () => {
  const { watch } = run(SSE, [
    Buffer.from(`${token("x")}data: {"error":{"message":"boom"}}\n\n${DONE}`),
  ]);
  expect(watch.facts().error?.message).toBe("boom");
});

test("where frames pass whole, every piece ends with one, whatever the split", () => {
  const parts = fc.array(fc.constantFrom(token("a"), ": ping\n\n", "data: 1\r\n\r\n", USAGE));
  const property = fc.property(parts, cuts, fc.boolean(), (all, at, dropUsage) => {
    const plain = all.filter((part) => !dropUsage || part !== USAGE).join("") + DONE;
    const watch = createStreamWatch({ ...SSE, dropUsage, wholeFrames: true });
    let text = "";
    for (const piece of pieces(all.join("") + DONE, at)) {
      const out = watch.push(piece);
      if (out === null) continue;
      text += Buffer.from(out).toString();
      expect(text).toMatch(/(?:\n\n|\r\n\r\n)$/);
      expect(watch.isBetweenFrames).toBe(true);
    }
    expect(text).toBe(plain);
    expect(watch.flush()).toBeNull();
  });
  fc.assert(property, { numRuns: 1000 });
});

test("a frame that is cut is gone, and what goes on is read as if it had never been", () => {
  const watch = createStreamWatch({ ...SSE, wholeFrames: true });
  watch.push(Buffer.from(token("a")));
  expect(watch.push(Buffer.from('data: {"choices":[{"del'))).toBeNull();
  watch.cut();
  expect(watch.flush()).toBeNull();
  watch.push(Buffer.from(USAGE));
  expect(watch.isComplete()).toBe(false);
  watch.push(Buffer.from(DONE));
  expect(watch.isComplete()).toBe(true);
  expect(watch.facts().usage).toMatchObject({ input: 3, output: 2 });
});

test("a frame too long to be held leaves the client within it, until one ends", () => {
  const watch = createStreamWatch({ ...SSE, wholeFrames: true });
  expect(watch.push(Buffer.alloc(70_000, "x"))?.length).toBe(70_000);
  expect(watch.isBetweenFrames).toBe(false);
  watch.push(Buffer.from("\n\n"));
  watch.push(Buffer.from(token("a")));
  expect(watch.isBetweenFrames).toBe(true);
});

test("the end of a stream is read although it comes byte by byte", () => {
  const text = token("a").repeat(5) + USAGE + DONE;
  const bytes = pieces(
    text,
    [...text].map((_, i) => i),
  );
  const { watch } = run({ ...SSE, tailBytes: 65_536 }, bytes);
  expect(bytes.length).toBeGreaterThan(256);
  expect(watch.facts().usage).toMatchObject({ input: 3, output: 2 });
  expect([watch.frames(), watch.isComplete()]).toEqual([6, true]);
});
