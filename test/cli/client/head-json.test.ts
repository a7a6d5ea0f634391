import { expect, test } from "bun:test";
import { parseFrame, parseStatus } from "../../../src/cli/client/head-json.ts";
import { cluster, frame } from "../../top/sample.ts";
import { engine, gpu, model, status, worker } from "../status/rows.ts";

const HEAD = { url: "http://h:8092" };
const STATUS = status([worker("w", { gpus: [gpu(0)] })], [model("m")]);

test("rows are read as they are, with what is new to this version", () => {
  const newer = { ...STATUS, later: 1, workers: [{ ...worker("w"), later: [2] }] };
  expect(parseStatus(JSON.stringify(newer), HEAD)).toEqual(newer);
  const seen = frame(cluster(), { view: "models" });
  expect(parseFrame(JSON.stringify(seen), "models", HEAD)).toEqual(seen);
});

test.each<[string, string]>([
  ["nothing", "null"],
  ["no JSON", "<html>"],
  ["a list", "[]"],
  ["another thing", JSON.stringify({ schema: "other/1" })],
  ["a schema that is no text", JSON.stringify({ schema: 1 })],
  ["an older status", JSON.stringify({ ...STATUS, schema: "llmnode.status/1" })],
])("%s is no status", (_what, body) => {
  expect(() => parseStatus(body, HEAD)).toThrow(
    /the head at http:\/\/h:8092 answers is not what this version knows as llmnode\.status\/2/,
  );
});

test.each<[object, string]>([
  [{ workers: 7 }, "workers"],
  [{ workers: [null] }, "workers[0]"],
  [{ workers: [{ ...worker("w"), name: 7 }] }, "workers[0].name"],
  [
    { workers: [{ ...worker("w"), gpus: [{ ...gpu(0), util_pct: "60" }] }] },
    "workers[0].gpus[0].util_pct",
  ],
  [
    { workers: [{ ...worker("w"), engines: [{ ...engine("w/1"), evidence: [7] }] }] },
    "workers[0].engines[0].evidence[0]",
  ],
  [{ models: [{ name: "m" }] }, "models[0].alias_of"],
])("what is missing or of another kind is refused with its place: %j", (wrong, place) => {
  const body = JSON.stringify({ ...STATUS, ...wrong });
  expect(() => parseStatus(body, HEAD)).toThrow(`(${place})`);
});
