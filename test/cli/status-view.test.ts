import { expect, test } from "bun:test";
import { problems, readStatus, type StatusView, statusLines } from "../../src/cli/status-view.ts";

function replica(model: string, state = "ready", inFlight: number | null = 0) {
  return { model, state, in_flight: inFlight };
}

function engine(id: string, extra: Record<string, unknown> = {}) {
  const base = { id, kind: "vllm", state: "ready", phase: null, reason: null };
  return { ...base, replicas: [replica("qwen")], ...extra };
}

function worker(name: string, extra: Record<string, unknown> = {}) {
  const base = { id: name, name, state: "ready", reason: null, via: "direct", age_ms: 400 };
  return { ...base, engines: [engine(`${name}/1`)], ...extra };
}

function status(workers: unknown[], models: unknown[]): StatusView {
  const head = { id: "x", version: "0.1.0", time: "2026-01-01T00:00:00Z" };
  const view = readStatus({ schema: "llmnode.status/1", head, workers, models });
  if (view === null) throw new Error("not read");
  return view;
}

const QWEN = { name: "qwen", ready: 2, replicas: 2, in_flight: 3 };
const WHERE = { url: "http://h:8092", columns: null };

test("the screen", () => {
  const loading = engine("gpu-02/1", { state: "starting", phase: "load 40%", replicas: [] });
  const view = status(
    [
      worker("gpu-01", {
        engines: [engine("gpu-01/1", { replicas: [replica("qwen", "ready", 3)] })],
      }),
      worker("gpu-02", {
        via: null,
        age_ms: 61_000,
        state: "stale",
        reason: "silent",
        engines: [loading],
      }),
    ],
    [QWEN],
  );
  expect(statusLines(view, WHERE).join("\n")).toBe(
    `\
head http://h:8092   llmnode 0.1.0   2 workers, 1 of 1 model ready

MODEL   READY   INFL
qwen    2/2     3

WORKER   STATE   VIA      SEEN        REASON
gpu-01   ready   direct   0.4s ago
gpu-02   stale   -        1m01s ago   silent

ENGINE     KIND   STATE                 MODEL   REPLICA   INFL
gpu-01/1   vllm   ready                 qwen    ready     3
gpu-02/1   vllm   starting (load 40%)   -       -         -`,
  );
});

test("an empty cluster is a line", () => {
  expect(statusLines(status([], []), WHERE)).toEqual([
    "head http://h:8092   llmnode 0.1.0   0 workers, 0 of 0 models ready",
  ]);
});

test("lines are cut to a terminal's width, by columns", () => {
  const view = status([worker("模".repeat(30))], [{ ...QWEN, name: "x".repeat(300) }]);
  for (const line of statusLines(view, { ...WHERE, columns: 40 })) {
    expect(Bun.stringWidth(line)).toBeLessThanOrEqual(40);
  }
});

test("names from outside cannot write to the terminal", () => {
  const view = status([worker("\u001b[2Jevil\nname")], [{ ...QWEN, name: "m\u0007\u202e" }]);
  const text = statusLines(view, WHERE).join("\n");
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
  expect(text).toContain("evil name");
});

test("what is missing is unknown, never invented; what is new is ignored", () => {
  const view = status([{ name: "w", engines: [{ replicas: [{}] }], gpus: [] }, 7, null], [{}]);
  expect(statusLines(view, WHERE)).toContain("?       ?/?     ?");
  expect(view.workers[0]?.engines[0]?.id).toBe("w/1");
});

test.each([[null], [7], ["x"], [[]], [{}], [{ schema: "other/1" }], [{ schema: 1 }]])(
  "%p is no status",
  (json) => {
    expect(readStatus(json)).toBeNull();
  },
);

test("a healthy cluster has no problems", () => {
  expect(problems(status([worker("a")], [QWEN]))).toEqual([]);
});

test("draining, and loading beside a ready replica, are no problems", () => {
  const loading = engine("b/1", { state: "starting", replicas: [replica("qwen", "starting")] });
  const workers = [worker("a", { state: "draining" }), worker("b", { engines: [loading] })];
  expect(problems(status(workers, [QWEN]))).toEqual([]);
});

test.each([
  ["no workers", [], [], ["no model is ready"]],
  [
    "a model without a ready replica",
    [worker("a")],
    [QWEN, { name: "llama", ready: 0, replicas: 1, in_flight: 0 }],
    ["model llama has no ready replica"],
  ],
  [
    "a lost worker",
    [worker("a", { state: "lost", reason: "silent for 15s" })],
    [QWEN],
    ["worker a is lost (silent for 15s)"],
  ],
  [
    "a crashed engine",
    [worker("a", { engines: [engine("a/1", { state: "backoff", reason: "exited with code 1" })] })],
    [QWEN],
    ["engine a/1 is backoff (exited with code 1)"],
  ],
  [
    "an unreachable replica",
    [
      worker("a", {
        engines: [
          engine("a/1", {
            reason: "listens on loopback only",
            replicas: [replica("qwen", "unreachable")],
          }),
        ],
      }),
    ],
    [QWEN],
    ["qwen on a/1 is unreachable (listens on loopback only)"],
  ],
])("%s is a problem", (_, workers, models, expected) => {
  expect(problems(status(workers, models))).toEqual(expected);
});
