import { expect, test } from "bun:test";
import { startTracing, type TracingLimits } from "../../../src/head/metrics/tracing.ts";
import { createLog } from "../../../src/util/log.ts";
import { beginTrace } from "../../../src/util/traceparent.ts";
import { AT, attempt, record } from "../../helpers/record.ts";
import { waitFor } from "../../helpers/wait.ts";

interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  events: { name: string; timeUnixNano: string }[];
  status: { code?: number; message?: string };
}

interface Exported {
  resourceSpans: {
    resource: { attributes: Span["attributes"] };
    scopeSpans: { spans: Span[] }[];
  }[];
}

/** A collector that keeps what it is sent. */
function startCollector(answer: () => Response | Promise<Response> = () => Response.json({})) {
  const messages: Exported[] = [];
  const paths: string[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      paths.push(new URL(request.url).pathname);
      expect(request.headers.get("content-type")).toBe("application/json");
      messages.push((await request.json()) as Exported);
      return await answer();
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    messages,
    paths,
    spans: () =>
      messages.flatMap(({ resourceSpans }) =>
        resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
      ),
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

async function tracing(url: string, limits: Partial<TracingLimits> = {}) {
  const lines: string[] = [];
  const log = createLog({ format: "logfmt", write: (line) => lines.push(line) });
  const quick = { flushMs: 10, exportTimeoutMs: 500, stopTimeoutMs: 500, ...limits };
  return { traces: await startTracing({ url, version: "1.2.3", log, limits: quick }), lines };
}

function attributesOf(span: Span | undefined): Record<string, unknown> {
  const plain = (value: Record<string, unknown>): unknown => {
    const list = value["arrayValue"] as { values: Record<string, unknown>[] } | undefined;
    return list ? list.values.map(plain) : Object.values(value)[0];
  };
  return Object.fromEntries((span?.attributes ?? []).map(({ key, value }) => [key, plain(value)]));
}

const nanos = (ms: number) => String(BigInt(Math.round(ms * 1000)) * 1000n);
const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER = "00f067aa0ba902b7";
const TRACEPARENT = `00-${TRACE_ID}-${CALLER}-01`;

test("one server span with the caller as parent, and one client span for each attempt", async () => {
  await using collector = startCollector();
  const { traces, lines } = await tracing(collector.url);
  const trace = beginTrace(TRACEPARENT);
  const attempts = [
    attempt({
      spanId: "aaaaaaaaaaaaaaa1",
      outcome: "unreachable",
      status: null,
      endedAt: AT + 20,
      firstByteAt: null,
    }),
    attempt({ spanId: "aaaaaaaaaaaaaaa2", worker: "gpu-2", startedAt: AT + 21.5 }),
  ];
  traces.onRecord(record({ traceparent: TRACEPARENT, trace, attempts }));
  await traces[Symbol.asyncDispose]();
  expect(collector.paths).toEqual(["/v1/traces"]);
  const resource = collector.messages[0]?.resourceSpans[0]?.resource.attributes ?? [];
  expect(resource).toContainEqual({ key: "service.name", value: { stringValue: "llmnode" } });
  expect(resource).toContainEqual({ key: "service.version", value: { stringValue: "1.2.3" } });

  const [server, first, second] = collector.spans();
  expect(collector.spans()).toHaveLength(3);
  expect(server).toMatchObject({
    traceId: TRACE_ID,
    spanId: trace.spanId,
    parentSpanId: CALLER,
    name: "POST /v1/chat/completions",
    kind: 2,
    startTimeUnixNano: nanos(AT),
    endTimeUnixNano: nanos(AT + 2100),
    events: [{ name: "llmnode.first_byte", timeUnixNano: nanos(AT + 110) }],
    status: { code: 0 },
  });
  expect(attributesOf(server)).toEqual({
    "http.request.method": "POST",
    "http.route": "/v1/chat/completions",
    "http.response.status_code": 200,
    "http.request.body.size": 2048,
    "http.response.body.size": 9000,
    "client.address": "192.0.2.7",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "qwen",
    "gen_ai.request.stream": true,
    "gen_ai.usage.input_tokens": 300,
    "gen_ai.usage.output_tokens": 41,
    "gen_ai.usage.cache_read.input_tokens": 256,
    "gen_ai.response.finish_reasons": ["stop"],
    "llmnode.request.id": "req-1",
    "llmnode.worker.name": "gpu-2",
    "llmnode.attempts": 2,
    "llmnode.queue_ms": 10,
  });
  expect(first).toMatchObject({
    traceId: TRACE_ID,
    spanId: "aaaaaaaaaaaaaaa1",
    parentSpanId: trace.spanId,
    name: "chat qwen",
    kind: 3,
    startTimeUnixNano: nanos(AT + 12),
    endTimeUnixNano: nanos(AT + 20),
    status: { code: 2, message: "unreachable" },
  });
  expect(attributesOf(first)).toEqual({
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "qwen",
    "server.address": "gpu-1",
    "llmnode.worker.name": "gpu-1",
    "error.type": "unreachable",
  });
  expect(second).toMatchObject({
    spanId: "aaaaaaaaaaaaaaa2",
    parentSpanId: trace.spanId,
    startTimeUnixNano: nanos(AT + 21.5),
    status: { code: 0 },
  });
  expect(attributesOf(second)).toMatchObject({
    "server.address": "gpu-2",
    "http.response.status_code": 200,
    "gen_ai.response.model": "qwen",
    "gen_ai.usage.output_tokens": 41,
  });
  expect(lines).toEqual([]);
});

test("a request without a caller's trace begins one; a broken traceparent counts as none", async () => {
  await using collector = startCollector();
  const { traces } = await tracing(`${collector.url}/`);
  traces.onRecord(record({ attempts: [] }));
  traces.onRecord(record({ attempts: [], traceparent: "00-zz-zz-01" }));
  await traces[Symbol.asyncDispose]();
  const spans = collector.spans();
  expect(spans).toHaveLength(2);
  for (const span of spans) {
    expect(span.parentSpanId ?? "").toBe("");
    expect(span.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(span.spanId).toMatch(/^[0-9a-f]{16}$/);
  }
  expect(spans[0]?.traceId).not.toBe(spans[1]?.traceId);
});

test("a trace that its caller does not record is not exported", async () => {
  await using collector = startCollector();
  const { traces } = await tracing(collector.url);
  traces.onRecord(record({ traceparent: TRACEPARENT.replace(/01$/, "00") }));
  traces.onRecord(record({ id: "req-2", attempts: [] }));
  await traces[Symbol.asyncDispose]();
  expect(collector.spans().map((span) => attributesOf(span)["llmnode.request.id"])).toEqual([
    "req-2",
  ]);
});

test("what the client did wrong is no error of the server's span, what broke is", async () => {
  await using collector = startCollector();
  const { traces } = await tracing(collector.url);
  const none = { firstByteMs: null, usage: null, finishReason: null, attempts: [] };
  const model = "a client's own text";
  const known = { model, modelKnown: false };
  traces.onRecord(record({ ...none, ...known, status: 404, error: "model_not_found" }));
  traces.onRecord(record({ ...none, status: 502, error: "upstream_unreachable" }));
  const broken = [attempt({ outcome: "broken" })];
  traces.onRecord(record({ error: "broken", attempts: broken, usageEstimated: true }));
  await traces[Symbol.asyncDispose]();
  const [wrong, unreachable, cut, client] = collector.spans();
  expect(wrong?.status).toEqual({ code: 0 });
  expect(attributesOf(wrong)).toMatchObject({ "error.type": "model_not_found" });
  expect(JSON.stringify(wrong)).not.toContain(model);
  expect(unreachable?.status).toEqual({ code: 2, message: "upstream_unreachable" });
  expect(cut?.status).toEqual({ code: 2, message: "broken" });
  expect(attributesOf(cut)["gen_ai.usage.output_tokens"]).toBeUndefined();
  expect(client?.status).toEqual({ code: 2, message: "broken" });
});

test("spans go out by themselves, in messages of bounded size", async () => {
  await using collector = startCollector();
  const { traces } = await tracing(collector.url, { batchSpans: 10 });
  for (let i = 0; i < 25; i += 1) traces.onRecord(record({ attempts: [] }));
  await waitFor(() => collector.spans().length === 25, { what: "25 spans" });
  expect(collector.messages.length).toBeGreaterThanOrEqual(3);
  await traces[Symbol.asyncDispose]();
});

test("a collector that refuses is told at once and then seldom, with what was lost", async () => {
  await using collector = startCollector(() => new Response("no", { status: 400 }));
  const { traces, lines } = await tracing(collector.url, { batchSpans: 1 });
  for (let i = 0; i < 5; i += 1) traces.onRecord(record({ attempts: [] }));
  await waitFor(() => collector.messages.length === 5, { what: "5 messages" });
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("1 span lost");
  await traces[Symbol.asyncDispose]();
  expect(lines).toHaveLength(2);
  expect(lines[1]).toContain("4 spans lost");
});

test("a collector that is not there, or never answers, holds nothing up", async () => {
  const gone = startCollector();
  await gone[Symbol.asyncDispose]();
  await using silent = startCollector(() => new Promise<Response>(() => {}));
  for (const { url } of [gone, silent]) {
    const { traces, lines } = await tracing(url, { maxQueuedSpans: 20, stopTimeoutMs: 700 });
    for (let i = 0; i < 100; i += 1) traces.onRecord(record({ attempts: [] }));
    expect(lines.join("")).toContain("the queue is full");
    await traces[Symbol.asyncDispose]();
    await traces[Symbol.asyncDispose]();
    traces.onRecord(record());
    const lost = lines.map((line) => Number(/(\d+) spans? lost/.exec(line)?.[1] ?? 0));
    expect(lost.reduce((sum, n) => sum + n, 0)).toBe(100);
  }
});

test("an address is completed, kept when it has a path, refused when it is none", async () => {
  await using collector = startCollector();
  const { traces } = await tracing(`${collector.url}/otel/v1/traces`);
  traces.onRecord(record());
  await traces[Symbol.asyncDispose]();
  expect(collector.paths).toEqual(["/otel/v1/traces"]);
  for (const url of ["localhost:4318", "ftp://x", "", "http://"]) {
    await expect(tracing(url)).rejects.toThrow("is not the address of a collector");
  }
});
