import { expect, test } from "bun:test";
import { problems, statusLines } from "../../../src/cli/status/view.ts";
import { engine, model, replica, status, worker } from "./rows.ts";

const QWEN = model("qwen");
const STARTING = { state: "starting", engine_state: "starting" } as const;
const BACKOFF = { state: "failed", engine_state: "backoff" } as const;
const WHERE = { url: "http://h:8092", columns: null };

test("an engine's own word on its load is shown as far as it goes", () => {
  const loads = [{ running: 12, queue: 3, kv_pct: 40.4 }, { running: 0 }, {}];
  const engines = loads.map((load, i) => engine(`gpu-01/${i + 1}`, load));
  const lines = statusLines(status([worker("gpu-01", { engines })], [QWEN]), WHERE);
  const column = lines.slice(lines.findIndex((line) => line.startsWith("ENGINE")));
  expect(column.map((line) => line.split("   ").at(-1)?.trim())).toEqual([
    "LOAD",
    "12 run, 3 wait, cache 40%",
    "0 run",
    "0",
  ]);
});

test("services stand beside models, and one without a ready replica is a problem", () => {
  const tts = { service: "tts", replicas: [replica("tts", "starting", 2)] };
  const workers = [worker("w", { engines: [engine("w/1", tts)] })];
  const view = status(workers, [], [model("tts", { ready: 0, replicas: 1, in_flight: 2 })]);
  const lines = statusLines(view, WHERE).map((line) => line.split(/ {2,}/));
  expect(lines).toContainEqual(["SERVICE", "READY", "INFL"]);
  expect(lines).toContainEqual(["tts", "0/1", "2"]);
  expect(lines.find(([id]) => id === "w/1")?.slice(3, 6)).toEqual(["tts", "starting", "2"]);
  expect(problems(view)).toContain("service tts has no ready replica");
});

test("the screen", () => {
  const loading = engine("gpu-02/1", {
    ...STARTING,
    phase: "load 40%",
    replicas: [],
  });
  const view = status(
    [
      worker("gpu-01", {
        engines: [engine("gpu-01/1", { replicas: [replica("qwen", "ready", 3)] })],
      }),
      worker("gpu-02", {
        route: null,
        seen_ms: 61_000,
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

WORKER   STATE   ROUTE    SEEN        REASON
gpu-01   ready   direct   0.4s ago
gpu-02   stale   -        1m01s ago   silent

ENGINE     KIND   STATE                 MODEL   REPLICA   INFL
gpu-01/1   vllm   ready                 qwen    ready     3
gpu-02/1   vllm   starting (load 40%)   -       -         -`,
  );
});

test("a phase shows its age where it is known", () => {
  const loading = { ...STARTING, phase: "load 40%", phase_ms: 130_000, replicas: [] };
  const view = status([worker("w", { engines: [engine("w/1", loading)] })], []);
  expect(statusLines(view, WHERE).join("\n")).toContain("starting (load 40%, 2m10s)");
});

test("an engine that crashes shows why, what to do, and on request what it printed", () => {
  const crashed = engine("w/1", {
    ...BACKOFF,
    reason: "the model does not fit into GPU memory: CUDA out of memory",
    failure: "gpu_oom",
    hint: "lower --max-model-len",
    evidence: ["Traceback", "\u001b[31mCUDA out of memory\u001b[0m"],
    replicas: [],
  });
  const again = engine("w/2", { ...STARTING, phase: "load", failure: "gpu_oom" });
  const well = engine("w/3");
  const view = status([worker("w", { engines: [crashed, again, well] })], []);
  const shown = [
    "",
    "w/1 backoff: the model does not fit into GPU memory: CUDA out of memory",
    "  next: lower --max-model-len",
  ];
  const narrow = { ...WHERE, columns: 40 };
  expect(statusLines(view, narrow).slice(-5)).toEqual([
    ...shown,
    "",
    "w/2 starting: ended before (gpu_oom)",
  ]);
  expect(statusLines(view, { ...narrow, verbose: true }).slice(-7)).toEqual([
    ...shown,
    "  | Traceback",
    "  | CUDA out of memory",
    "",
    "w/2 starting: ended before (gpu_oom)",
  ]);
});

test("an empty cluster is a line", () => {
  expect(statusLines(status([], []), WHERE)).toEqual([
    "head http://h:8092   llmnode 0.1.0   0 workers, 0 of 0 models ready",
  ]);
});

test("lines are cut to a terminal's width, by columns", () => {
  const view = status([worker("模".repeat(30))], [model("x".repeat(300))]);
  for (const line of statusLines(view, { ...WHERE, columns: 40 })) {
    expect(Bun.stringWidth(line)).toBeLessThanOrEqual(40);
  }
});

test("names from outside cannot write to the terminal", () => {
  const view = status([worker("\u001b[2Jevil\nname")], [model("m\u0007\u202e")]);
  const text = statusLines(view, WHERE).join("\n");
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
  expect(text).toContain("evil name");
});

test("an alias is no model of its own", () => {
  const view = status([worker("a")], [QWEN, model("fast", { alias_of: "gone", ready: 0 })]);
  expect(statusLines(view, WHERE)[0]).toEndWith("1 worker, 1 of 1 model ready");
  expect(problems(view)).toEqual([]);
});

test("a healthy cluster has no problems", () => {
  expect(problems(status([worker("a")], [QWEN]))).toEqual([]);
});

test("draining, and loading beside a ready replica, are no problems", () => {
  const loading = engine("b/1", { ...STARTING, replicas: [replica("qwen", "starting")] });
  const workers = [worker("a", { state: "draining" }), worker("b", { engines: [loading] })];
  expect(problems(status(workers, [QWEN]))).toEqual([]);
});

test.each([
  ["no workers", [], [], ["no model is ready"]],
  [
    "a model without a ready replica",
    [worker("a")],
    [QWEN, model("llama", { ready: 0 })],
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
    [worker("a", { engines: [engine("a/1", { ...BACKOFF, reason: "exited with code 1" })] })],
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
