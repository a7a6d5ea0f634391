import { expect, test } from "bun:test";
import type { EngineStatus } from "../../src/engine/status.ts";
import { unknownReport } from "../../src/protocol/engine-report.ts";
import { MAX_MESSAGE_BYTES } from "../../src/protocol/messages.ts";
import { loadService } from "../../src/protocol/schema.ts";
import { createReporter } from "../../src/worker/report.ts";

const status = (more: Partial<EngineStatus> = {}): EngineStatus => ({
  ...unknownReport(1000),
  kind: "vllm",
  failure: null,
  run: "r1",
  state: "ready",
  pid: 1,
  port: 8000,
  url: "http://127.0.0.1:8000",
  models: [],
  ...more,
});

const model = (id: string) => ({ id, parent: null, maxModelLen: null, loaded: null });
const reporter = () =>
  createReporter({ engine: "1", advertise: null, apiKey: null, now: () => 1500 });

test("a new session hears everything, later only what changed", () => {
  const report = reporter();
  const kinds = (messages: { message: string }[]) => messages.map(({ message }) => message);
  expect(kinds(report.all(status({ models: [model("m")] })))).toEqual(["engine", "models"]);
  expect(report.changes(status({ models: [model("m")] }))).toEqual([]);
  expect(kinds(report.changes(status({ models: [model("n")] })))).toEqual(["models"]);
  expect(kinds(report.changes(status({ models: [model("n")], reason: "x" })))).toEqual(["engine"]);
  expect(kinds(report.all(status({ models: [model("n")], reason: "x" })))).toEqual([
    "engine",
    "models",
  ]);
});

test("unknown stays unknown on the wire", () => {
  const [message] = reporter().all(
    status({ state: "starting", run: null, pid: null, port: null, url: null }),
  );
  expect(message).toEqual({
    message: "engine",
    engine: {
      engine: "1",
      run: "",
      kind: "vllm",
      state: "STARTING",
      phase: "",
      reason: "",
      sinceMs: 500,
      port: 0,
      https: false,
      loopbackOnly: undefined,
      advertise: "",
      apiKey: "",
      restarts: 0,
      expectedModels: [],
      gpus: [],
      gpusWanted: 0,
      hostHeader: "",
      service: "",
      evidence: [],
      hint: "",
      failure: "",
      phaseMs: 0,
      pid: 0,
      adopted: false,
      container: "",
      maxInFlight: undefined,
    },
  });
});

test("what it should have at once, its GPUs and its Host are told where they are known", () => {
  const known = { maxInFlight: 320, gpusWanted: 2, hostHeader: "127.0.0.1:11434" };
  const [message] = reporter().all(status(known));
  expect(message).toMatchObject({ message: "engine", engine: known });
});

test("however many and long the models, no message is above the limit and none is lost", () => {
  const join = loadService()["Join"];
  const names = Array.from({ length: 3000 }, (_, i) => `${"é".repeat(i % 120)}-${i}`);
  const messages = reporter().all(status({ models: names.map(model), expectedModels: names }));
  const sizes = messages.map((message) => join?.requestSerialize(message).length ?? 0);
  expect(Math.max(...sizes)).toBeLessThan(MAX_MESSAGE_BYTES);
  const pages = messages.flatMap((message) =>
    message.message === "models" ? [message.models] : [],
  );
  expect(pages.flatMap(({ models }) => models.map(({ id }) => id))).toEqual(names);
  expect(pages.map(({ more }) => more)).toEqual(pages.map((_, i) => i < pages.length - 1));
  expect(new Set(pages.map(({ revision }) => revision)).size).toBe(1);
});

test("an empty list replaces a full one", () => {
  const report = reporter();
  report.all(status({ models: [model("m")] }));
  const [message] = report.changes(status());
  expect(message).toMatchObject({ message: "models", models: { models: [], more: false } });
});
