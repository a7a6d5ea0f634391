/** Records of finished requests, for tests of what is made of them. */

import type { AttemptRecord, RequestRecord } from "../../src/proxy/record/record.ts";

export const AT = Date.UTC(2026, 7, 1, 12, 0, 0);

export function attempt(more: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    worker: "gpu-1",
    engine: "1",
    engineKind: "vllm",
    model: "qwen",
    startedAt: AT + 12,
    endedAt: AT + 2100,
    firstByteAt: AT + 110,
    outcome: "ok",
    status: 200,
    explanation: null,
    spanId: null,
    ...more,
  };
}

/** A stream of 41 tokens that went well: 100 ms to the first, 50 ms for each further one. */
export function record(more: Partial<RequestRecord> = {}): RequestRecord {
  return {
    id: "req-1",
    startedAt: AT,
    durationMs: 2100,
    method: "POST",
    route: "/v1/chat/completions",
    operation: "chat",
    model: "qwen",
    alias: false,
    modelKnown: true,
    stream: true,
    status: 200,
    error: null,
    resume: null,
    attempts: [attempt()],
    bodyMs: 1,
    queueMs: 10,
    firstByteMs: 110,
    bytesIn: 2048,
    promptBytes: 1200,
    bytesOut: 9000,
    chunks: 42,
    usage: { input: 300, output: 41, cachedInput: 256, reasoning: 8 },
    usageEstimated: false,
    finishReason: "stop",
    clientAddress: "192.0.2.7",
    key: null,
    traceparent: null,
    bodies: null,
    trace: null,
    ...more,
  };
}

const none = { firstByteMs: null, usage: null, finishReason: null, bytesOut: 0, chunks: 0 };

/** One request for each thing that can happen to one. */
export function eventful(): RequestRecord[] {
  return [
    record(),
    record({
      attempts: [
        attempt({ outcome: "unreachable", status: null, firstByteAt: null, endedAt: AT + 20 }),
        attempt({ worker: "gpu-2", startedAt: AT + 21 }),
      ],
    }),
    record({ ...none, status: 404, error: "model_not_found", modelKnown: false, attempts: [] }),
    record({
      error: "broken",
      resume: "no_replica",
      attempts: [attempt({ outcome: "broken" })],
      usageEstimated: true,
    }),
    record({ ...none, status: 499, error: "client_gone", attempts: [], model: null, queueMs: 0 }),
    record({ ...none, status: 499, error: "client_gone", attempts: [], modelKnown: false }),
    record({
      ...none,
      status: 499,
      error: "client_gone",
      attempts: [attempt({ outcome: "client_gone", status: null, firstByteAt: null })],
    }),
    record({ status: 499, error: "client_gone", attempts: [attempt({ outcome: "client_gone" })] }),
  ];
}
