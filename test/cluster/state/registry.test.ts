import { expect, test } from "bun:test";
import {
  reportEngine,
  reportModels,
  setRoute,
  workerOf,
} from "../../../src/cluster/state/registry.ts";
import { accepted, addWorker, cluster, hello, report, T0, tryJoin } from "../fixtures.ts";

const page = (revision: number, ids: string[], more: boolean) => ({
  engine: "1",
  run: "r",
  revision,
  models: ids.map((id) => ({ id, parent: "", card: "" })),
  more,
});

test("late messages of an old session find no worker", () => {
  const state = cluster();
  const old = accepted(tryJoin(state, hello("aaaa")));
  const id = { workerId: old.worker.id, session: old.session };
  expect(workerOf(state, id)).toBe(old.worker);
  const next = accepted(tryJoin(state, hello("aaaa", { epoch: 2 })));
  expect(workerOf(state, id)).toBeNull();
  expect(workerOf(state, { ...id, session: next.session })).toBe(next.worker);
});

test("a list of models counts when its last page is there", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["old"] });
  const names = () => engine.models.map((model) => model.id);
  reportModels(state, { worker, list: page(100, ["a", "b"], true) }, T0);
  expect(names()).toEqual(["old"]);
  reportModels(state, { worker, list: page(100, ["c"], false) }, T0);
  expect(names()).toEqual(["a", "b", "c"]);
});

test("a new list drops the unfinished one before it", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: [] });
  reportModels(state, { worker, list: page(100, ["x"], true) }, T0);
  reportModels(state, { worker, list: page(101, ["y"], false) }, T0);
  expect(engine.models.map((model) => model.id)).toEqual(["y"]);
});

test("more models and engines than are allowed are refused, what was there stays", () => {
  const state = cluster({ maxModelsPerWorker: 3, maxEnginesPerWorker: 2 });
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  expect(reportModels(state, { worker, list: page(100, ["a", "b", "c"], true) }, T0)).toBe(true);
  expect(reportModels(state, { worker, list: page(100, ["d"], false) }, T0)).toBe(false);
  expect(engine.models.map((model) => model.id)).toEqual(["m"]);
  expect(reportEngine(state, { worker, report: report({ engine: "2" }) }, T0)).not.toBeNull();
  expect(reportEngine(state, { worker, report: report({ engine: "3" }) }, T0)).toBeNull();
});

test("names that could not be shown as they are, are not offered", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: [] });
  const hostile = ["ok", "", "a\u001b[2Jb", "line\nbreak", "x".repeat(513), "x".repeat(1_000_000)];
  reportModels(state, { worker, list: page(100, hostile, false) }, T0);
  expect(engine.models.map((model) => model.id)).toEqual(["ok"]);
  const text = report({ reason: "a\u001b[31mb\nc", phase: "p".repeat(1000), kind: "k\u0000" });
  reportEngine(state, { worker, report: text }, T0);
  expect([engine.report.reason, engine.report.phase?.length, engine.report.kind]).toEqual([
    "ab c",
    100,
    "k",
  ]);
});

test("the way to an engine is found out anew when it could have changed, and only then", () => {
  const state = cluster();
  const { worker } = accepted(tryJoin(state, hello("aaaa")));
  const stale = (more: Parameters<typeof report>[0]) =>
    reportEngine(state, { worker, report: report(more) }, T0)?.routeStale;
  expect(stale({ state: "STARTING" })).toBe(false);
  expect(stale({})).toBe(true);
  expect(stale({})).toBe(false);
  expect(stale({ restarts: 1 })).toBe(false);
  expect(stale({ port: 9000 })).toBe(true);
  expect(stale({ port: 9000, advertise: "http://x" })).toBe(true);
  expect(stale({ port: 9000, advertise: "http://x", run: "next" })).toBe(true);
  expect(stale({ port: 9000, advertise: "http://x", run: "next", state: "UNHEALTHY" })).toBe(false);
  expect(stale({ port: 9000, advertise: "http://x", run: "next" })).toBe(true);
});

test("a new run of an engine has no way until one is found", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  setRoute(state, engine, { via: "direct", url: "http://a" });
  reportEngine(state, { worker, report: report({ run: "next" }) }, T0);
  expect(engine.route).toEqual({ via: "unknown" });
});

test.each(["", "0", "1/2", "one", "12345", "1\u001b[2J", "x".repeat(10_000)])(
  "an engine that is called %j is none",
  (engine) => {
    const state = cluster();
    const { worker } = accepted(tryJoin(state, hello("aaaa")));
    expect(reportEngine(state, { worker, report: report({ engine }) }, T0)).toBeNull();
    expect(worker.engines.size).toBe(0);
  },
);
