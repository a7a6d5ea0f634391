import { expect, test } from "bun:test";
import { modelRows, serviceRows } from "../../../src/cluster/rows/models.ts";
import { workerDetails } from "../../../src/cluster/rows/workers.ts";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { dntTable } from "../../../src/head/api/dnt-table.ts";
import { modelCards } from "../../../src/head/api/models.ts";
import {
  jsonAnswer,
  jsonChunks,
  type ListFields,
  oneForAll,
} from "../../../src/head/http/lists.ts";
import { addWorker, cluster, rowContext, T0 } from "../../cluster/fixtures.ts";

const MODELS = 200;

function large(workers: number) {
  const state = cluster();
  for (let i = 0; i < workers; i += 1)
    addWorker(state, `gpu-${i}`, { models: [`m-${i % MODELS}`] });
  return state;
}

/** By a clock on which each step takes a millisecond. */
async function inSteps(fields: ListFields, { turnMs = 10, onRest = () => {} } = {}) {
  let at = 0;
  let turns = 1;
  const rest = async () => {
    turns += 1;
    onRest();
    await Promise.resolve();
  };
  const chunks = await jsonChunks(fields, { turnMs, now: () => (at += 0.5), rest });
  return { turns, text: await jsonAnswer(chunks).text() };
}

test("a status of 2000 workers takes turns, none of more than some rows, and is the same JSON", async () => {
  const state = large(2000);
  const lists = () => {
    const context = rowContext(state);
    const [workers, models] = [workerDetails(context), modelRows(context)];
    return { head: { id: "h" }, workers, models, services: serviceRows(context) };
  };
  const { turns, text } = await inSteps(Object.entries(lists()));
  expect(turns).toBeGreaterThan((2000 + MODELS) / 21);
  const { head, workers, models, services } = lists();
  const whole = { head, workers: [...workers], models: [...models], services: [...services] };
  expect(text).toBe(JSON.stringify(whole));
});

test("models and OpenTela's table take turns as well", async () => {
  const state = large(500);
  const aliases = { names: () => [], modelsOf: () => null };
  const cards = () => modelCards(createCatalogReader(state)(), aliases);
  const models = await inSteps(Object.entries({ object: "list", data: cards() }));
  expect(models.turns).toBeGreaterThan(MODELS / 21);
  expect(models.text).toBe(JSON.stringify({ object: "list", data: [...cards()] }));
  const rows = () => dntTable(state, { id: "h", version: "1" }, T0);
  const table = await inSteps(rows());
  expect(table.turns).toBeGreaterThan(500 / 21);
  expect(table.text).toBe(JSON.stringify(Object.fromEntries(rows())));
});

test("workers that come and go meanwhile: those of the beginning are listed, each once", async () => {
  const state = large(500);
  let turn = 0;
  const onRest = () => {
    turn += 1;
    state.workers.delete(`worker-gpu-${500 - turn}`);
    addWorker(state, `new-${turn}`, { models: ["m-0"] });
  };
  const fields = Object.entries({ workers: workerDetails(rowContext(state)) });
  const { text } = await inSteps(fields, { onRest });
  const { workers } = JSON.parse(text) as { workers: { name: string }[] };
  expect(turn).toBeGreaterThan(20);
  expect(new Set(workers.map(({ name }) => name)).size).toBe(500);
  expect(workers.some(({ name }) => name.startsWith("new-"))).toBe(false);
});

test("empty lists, no fields, and names that need quotes", async () => {
  const json = async (fields: ListFields) => (await inSteps(fields)).text;
  expect(await json([])).toBe("{}");
  expect(await json([["a", [].values()]])).toBe('{"a":[]}');
  expect(
    await json([
      ['"é', ["x"]],
      ["b", ["ü", null].values()],
    ]),
  ).toBe('{"\\"é":["x"],"b":["ü",null]}');
});

test("one is made for all who ask before it begins; who asks while it is made gets the next", async () => {
  const made: PromiseWithResolvers<string>[] = [];
  const ask = oneForAll(() => {
    const one = Promise.withResolvers<string>();
    made.push(one);
    return one.promise;
  });
  const first = [ask(), ask()];
  await Bun.sleep(0);
  expect(made.length).toBe(1);
  const second = [ask(), ask()];
  await Bun.sleep(0);
  // One at a time.
  expect(made.length).toBe(1);
  made[0]?.reject(new Error("no"));
  const outcomes = await Promise.allSettled(first);
  expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  await Bun.sleep(0);
  expect(made.length).toBe(2);
  made[1]?.resolve("second");
  expect(await Promise.all(second)).toEqual(["second", "second"]);
});
