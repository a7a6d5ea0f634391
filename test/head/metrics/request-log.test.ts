import { expect, test } from "bun:test";
import { createRequestLog, type RequestLogOptions } from "../../../src/head/metrics/request-log.ts";
import { createLog, silentLog } from "../../../src/util/log.ts";
import { attempt, record } from "../../helpers/record.ts";
import { waitFor } from "../../helpers/wait.ts";

function logTo(options: Partial<RequestLogOptions> = {}) {
  const batches: string[] = [];
  const write = (text: string) => void batches.push(text);
  const log = createRequestLog({ format: "json", write, log: silentLog, ...options });
  const lines = () => batches.join("").split("\n").slice(0, -1);
  return { log, batches, lines };
}

async function lineOf(options: Partial<RequestLogOptions>, one = record()): Promise<string> {
  const { log, batches } = logTo(options);
  log.onRecord(one);
  await log[Symbol.asyncDispose]();
  return batches.join("");
}

const FAILED = record({
  id: "req-2",
  durationMs: 0.26,
  model: "made up",
  modelKnown: false,
  status: 404,
  error: "model_not_found",
  attempts: [],
  queueMs: 0.04,
  firstByteMs: null,
  usage: null,
  finishReason: null,
  bytesOut: 0,
});

test("a line in JSON: everything by name and unit, null for what is unknown", async () => {
  expect(await lineOf({ format: "json" })).toBe(
    '{"schema":"llmnode.request/1","time":"2026-08-01T12:00:02.100Z","level":"info",' +
      '"message":"request","request_id":"req-1","trace_id":null,"method":"POST",' +
      '"route":"/v1/chat/completions","status":200,"model":"qwen","stream":true,' +
      '"worker":"gpu-1","attempts":1,"resumed":false,"queue_ms":10,"ttft_ms":110,"duration_ms":2100,' +
      '"input_tokens":300,"cached_input_tokens":256,"output_tokens":41,' +
      '"output_tokens_estimated":false,"finish_reason":"stop","bytes_in":2048,"bytes_out":9000,' +
      '"client_address":"192.0.2.7","key_id":null,"error":null,"engine_message":null}\n',
  );
  expect(JSON.parse(await lineOf({ format: "json" }, FAILED))).toEqual({
    schema: "llmnode.request/1",
    time: "2026-08-01T12:00:00.000Z",
    level: "info",
    message: "request",
    request_id: "req-2",
    trace_id: null,
    method: "POST",
    route: "/v1/chat/completions",
    status: 404,
    model: "made up",
    stream: true,
    worker: null,
    attempts: 0,
    resumed: false,
    queue_ms: 0,
    ttft_ms: null,
    duration_ms: 0.3,
    input_tokens: null,
    cached_input_tokens: null,
    output_tokens: null,
    output_tokens_estimated: null,
    finish_reason: null,
    bytes_in: 2048,
    bytes_out: 0,
    client_address: "192.0.2.7",
    key_id: null,
    error: "model_not_found",
    engine_message: null,
  });
});

test("a line in text and in logfmt: what is unknown is left out", async () => {
  expect(await lineOf({ format: "text" })).toBe(
    "12:00:02 200 POST /v1/chat/completions  request_id=req-1  model=qwen  stream=true" +
      "  worker=gpu-1  attempts=1  queue_ms=10  ttft_ms=110  duration_ms=2100  input_tokens=300" +
      "  cached_input_tokens=256  output_tokens=41  finish_reason=stop  bytes_in=2048" +
      "  bytes_out=9000  client_address=192.0.2.7\n",
  );
  expect(await lineOf({ format: "logfmt" }, FAILED)).toBe(
    "time=2026-08-01T12:00:00.000Z level=info msg=request request_id=req-2 method=POST" +
      ' route=/v1/chat/completions status=404 model="made up" stream=true attempts=0 queue_ms=0' +
      " duration_ms=0.3 bytes_in=2048 bytes_out=0 client_address=192.0.2.7" +
      " error=model_not_found\n",
  );
});

test("what a client or an engine sends cannot forge a line or reach a terminal", async () => {
  const hostile = 'x\n12:00:00 200 GET /admin\u001b[31m\u202e"';
  const one = record({ id: hostile, model: hostile, finishReason: hostile });
  for (const format of ["text", "logfmt", "json"] as const) {
    const text = await lineOf({ format }, one);
    expect(text.split("\n")).toHaveLength(2);
    expect(text).not.toMatch(/[\u001b\u202e]/);
  }
});

test("an engine's words on its own failure are there, those on a wrong request are not", async () => {
  const echo = "messages.0.content: 'my secret prompt' is not allowed";
  const rejected = [attempt({ outcome: "rejected", status: 400 })];
  const refused = record({ status: 400, error: echo, attempts: rejected });
  expect(JSON.parse(await lineOf({}, refused))).toMatchObject({
    error: "rejected",
    engine_message: null,
  });
  const died = [attempt({ outcome: "engine_error", status: 500 })];
  const failed = record({ status: 500, error: "CUDA out of memory", attempts: died });
  expect(JSON.parse(await lineOf({}, failed))).toMatchObject({
    error: "engine_error",
    engine_message: "CUDA out of memory",
  });
});

test("lines go out in batches: after a while, or at once when there is much", async () => {
  const slow = logTo({ flushMs: 30, flushChars: 1_000_000 });
  for (let i = 0; i < 10; i += 1) slow.log.onRecord(record());
  expect(slow.batches).toEqual([]);
  await waitFor(() => slow.batches.length === 1);
  expect(slow.lines()).toHaveLength(10);
  slow.log.onRecord(record());
  await waitFor(() => slow.batches.length === 2);
  await slow.log[Symbol.asyncDispose]();

  const full = logTo({ flushMs: 1_000_000, flushChars: 2000 });
  for (let i = 0; i < 10; i += 1) full.log.onRecord(record());
  await waitFor(() => full.batches.length >= 1);
  await full.log[Symbol.asyncDispose]();
  expect(full.lines()).toHaveLength(10);
});

test("a sink that is too slow loses lines, and the log says how many", async () => {
  const batches: string[] = [];
  let letGo: () => void = () => {};
  const write = (text: string) =>
    new Promise<void>((resolve) => {
      batches.push(text);
      letGo = resolve;
    });
  const { log } = logTo({ write, flushChars: 1, maxBufferedChars: 5000 });
  for (let i = 0; i < 100; i += 1) log.onRecord(record());
  expect(batches).toHaveLength(1);
  letGo();
  await waitFor(() => batches.length === 2);
  const stopped = log[Symbol.asyncDispose]();
  letGo();
  await stopped;
  const lines = batches.join("").trimEnd().split("\n");
  const told = JSON.parse(lines.at(-1) ?? "") as { level: string; dropped: number };
  expect(told.level).toBe("warn");
  expect(told.dropped).toBeGreaterThan(80);
  expect(lines.length - 1 + told.dropped).toBe(100);
});

test("what waited for a slow sink goes out in order, and never much of it at once", async () => {
  const batches: string[] = [];
  let letGo: () => void = () => {};
  const write = (text: string) =>
    new Promise<void>((resolve) => {
      batches.push(text);
      letGo = resolve;
    });
  const { log } = logTo({ write, flushChars: 1 });
  const ids = Array.from({ length: 10_000 }, (_, i) => `req-${i}`);
  for (const id of ids) log.onRecord(record({ id }));
  for (;;) {
    const before = batches.length;
    letGo();
    await new Promise((resolve) => setImmediate(resolve));
    if (batches.length === before) break;
  }
  const lines = batches.join("").trimEnd().split("\n");
  const told = lines.map((line) => JSON.parse(line) as { request_id?: string; dropped?: number });
  const kept = told.flatMap(({ request_id }) => request_id ?? []);
  const dropped = told.reduce((sum, { dropped: lost = 0 }) => sum + lost, 0);
  expect(kept).toEqual(ids.slice(0, kept.length));
  expect(kept.length + dropped).toBe(ids.length);
  expect(dropped).toBeGreaterThan(0);
  expect(Math.max(...batches.map(({ length }) => length))).toBeLessThan(512 * 1024);
  await log[Symbol.asyncDispose]();
});

test("lost lines are told in every format", async () => {
  for (const [format, pattern] of [
    ["text", /warn: request log lines dropped.*  dropped=1\n$/],
    ["logfmt", /level=warn msg="request log lines dropped.*" dropped=1\n$/],
  ] as const) {
    expect(await lineOf({ format, maxBufferedChars: 10 })).toMatch(pattern);
  }
});

test("a sink that fails is told once, and says what it lost when it is well again", async () => {
  const lines: string[] = [];
  const warnings = createLog({ format: "logfmt", write: (line) => lines.push(line) });
  const taken: string[] = [];
  let tries = 0;
  const write = async (text: string) => {
    tries += 1;
    if (tries <= 3) throw new Error("disk full");
    taken.push(text);
  };
  const { log } = logTo({ write, flushChars: 1, log: warnings });
  for (let i = 1; i <= 3; i += 1) {
    log.onRecord(record());
    await waitFor(() => tries === i);
  }
  log.onRecord(record({ id: "req-9" }));
  await log[Symbol.asyncDispose]();
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('error="disk full"');
  const written = taken.join("").trimEnd().split("\n");
  expect(written).toHaveLength(2);
  expect(JSON.parse(written[0] ?? "")).toMatchObject({ request_id: "req-9" });
  expect(JSON.parse(written[1] ?? "")).toMatchObject({ dropped: 3 });
});

test("lines that come while a write fails are written later by themselves", async () => {
  const taken: string[] = [];
  let fail: (error: Error) => void = () => {};
  let tries = 0;
  const write = (text: string) => {
    tries += 1;
    if (tries > 1) return void taken.push(text);
    return new Promise<void>((_, reject) => (fail = reject));
  };
  const { log } = logTo({ write, flushChars: 1, flushMs: 10 });
  log.onRecord(record());
  log.onRecord(record({ id: "req-2" }));
  fail(new Error("disk full"));
  await waitFor(() => taken.length === 1);
  expect(taken[0]).toContain("req-2");
  await log[Symbol.asyncDispose]();
});

test("the end writes what waits, waits for a slow sink only so long, and takes nothing after", async () => {
  const { log, lines } = logTo({ flushMs: 1_000_000 });
  log.onRecord(record());
  await log[Symbol.asyncDispose]();
  log.onRecord(record());
  await log[Symbol.asyncDispose]();
  expect(lines()).toHaveLength(1);

  const never = new Promise<void>(() => {});
  const stuck = logTo({ write: () => never, stopTimeoutMs: 20 });
  stuck.log.onRecord(record());
  await stuck.log[Symbol.asyncDispose]();
});

test("what was asked and answered is told only where the record carries it", async () => {
  const bodies = { request: '{"a":\n1}', answer: "b\u001b[2J" };
  const [without, told] = [await lineOf({}), await lineOf({}, record({ bodies }))].map(
    (line) => JSON.parse(line) as Record<string, unknown>,
  );
  expect("request_body" in (without ?? {})).toBe(false);
  expect([told?.["request_body"], told?.["answer_body"]]).toEqual(['{"a": 1}', "b"]);
});
