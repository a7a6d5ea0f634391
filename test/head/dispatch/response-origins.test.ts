import { expect, test } from "bun:test";
import { reportEngine } from "../../../src/cluster/state/registry.ts";
import { createResponseOrigins } from "../../../src/head/dispatch/response-origins.ts";
import { addWorker, cluster, report, T0 } from "../../cluster/fixtures.ts";

const here = { engineRun: "engine-run-a", model: "m" };

test("a response is found for as long as its engine lives, and no longer than its time", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  let now = T0;
  const origins = createResponseOrigins({ state, now: () => now, limits: { maxAgeMs: 1000 } });
  origins.note("resp_1", here);
  expect(origins.find("resp_1")).toMatchObject(here);
  expect(origins.find("resp_2")).toBeNull();
  now += 999;
  expect(origins.find("resp_1")).toMatchObject(here);
  now += 1;
  expect(origins.find("resp_1")).toBeNull();
  origins.note("resp_1", here);
  reportEngine(state, { worker, report: report({ run: "another life" }) }, now);
  expect(origins.find("resp_1")).toBeNull();
});

test.each(["lost", "left"] as const)("a worker that is %s has none", (gone) => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  const origins = createResponseOrigins({ state, now: () => T0 });
  origins.note("resp_1", here);
  worker.state = gone;
  expect(origins.find("resp_1")).toBeNull();
});

test("the oldest are forgotten beyond the limit", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m"] });
  const limits = { maxResponses: 3 };
  const origins = createResponseOrigins({ state, now: () => T0, limits });
  for (const id of ["resp_1", "resp_2", "resp_3", "resp_1", "resp_4"]) origins.note(id, here);
  const found = ["resp_1", "resp_2", "resp_3", "resp_4"].filter((id) => origins.find(id) !== null);
  expect(found).toEqual(["resp_1", "resp_3", "resp_4"]);
});
