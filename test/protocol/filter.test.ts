import { expect, test } from "bun:test";
import fc from "fast-check";
import { type FieldValue, FilterError, parseFilter } from "../../src/protocol/filter.ts";

const ROWS: Record<string, FieldValue>[] = [
  { name: "gpu-01", state: "ready", gpu: 91, infl: 41, model: ["Qwen/Qwen3-8B"], via: null },
  {
    name: "gpu-02",
    state: "ready",
    gpu: 12,
    infl: 0,
    model: ["bge-m3", "Qwen/Qwen3-8B"],
    via: "lane",
  },
  {
    name: "gpu-03",
    state: "lost",
    gpu: null,
    infl: 0,
    model: ["deepseek-ai/DeepSeek-V3"],
    via: null,
  },
  { name: "my rig", state: "starting", gpu: 2, infl: 1500, model: [], via: "direct" },
];
const FIELDS = new Set(Object.keys(ROWS[0] ?? {}));

function chosen(filter: string): string[] {
  const holds = parseFilter(filter, (field) => FIELDS.has(field));
  const seen = ROWS.filter((row) =>
    holds({ get: (field) => row[field], text: () => Object.values(row).flat().join(" ") }),
  );
  return seen.map(({ name }) => String(name));
}

function problem(filter: string): { message: string; at: number } {
  try {
    chosen(filter);
  } catch (error) {
    if (error instanceof FilterError) return { message: error.message, at: error.at };
    throw error;
  }
  throw new Error("it was taken");
}

test.each([
  ["", ["gpu-01", "gpu-02", "gpu-03", "my rig"]],
  ["   ", ["gpu-01", "gpu-02", "gpu-03", "my rig"]],
  ["QWEN", ["gpu-01", "gpu-02"]],
  ["!qwen", ["gpu-03", "my rig"]],
  ["state:lost", ["gpu-03"]],
  ["STATE:lost", ["gpu-03"]],
  ["!state:ready", ["gpu-03", "my rig"]],
  ["state!=ready", ["gpu-03", "my rig"]],
  ["state=read", []],
  ["state=READY gpu>80", ["gpu-01"]],
  ["gpu>=12", ["gpu-01", "gpu-02"]],
  ["gpu<=2", ["my rig"]],
  ["gpu<80%", ["gpu-02", "my rig"]],
  ["infl>1k", ["my rig"]],
  ["infl=0", ["gpu-02", "gpu-03"]],
  ["infl!=0", ["gpu-01", "my rig"]],
  ["lost|starting", ["gpu-03", "my rig"]],
  ["lost | starting", ["gpu-03", "my rig"]],
  ["model:bge|deepseek", ["gpu-02", "gpu-03"]],
  ["state:lost|state:starting", ["gpu-03", "my rig"]],
  ["model:qwen via:lane", ["gpu-02"]],
  ["model!=bge-m3", ["gpu-01", "gpu-03", "my rig"]],
  ['"my rig"', ["my rig"]],
  ['name:"my rig"', ["my rig"]],
  ['name="MY RIG"|gpu-01', ["gpu-01", "my rig"]],
])("%p", (filter, names) => {
  expect(chosen(filter)).toEqual(names);
});

test.each([
  ["speed:1", { message: "no field speed", at: 0 }],
  ["gpu-01 speed>1", { message: "no field speed", at: 7 }],
  ["gpu>fast", { message: "gpu> wants a number, not fast", at: 0 }],
  ["state:", { message: "no value for state", at: 6 }],
  ["!", { message: "no word", at: 1 }],
  ["| a", { message: "nothing before '|'", at: 0 }],
  ["a | | b", { message: "nothing before '|'", at: 4 }],
  ["a |", { message: "nothing after '|'", at: 3 }],
  ['name:"my', { message: 'a quote that is not closed: "', at: 5 }],
  ["x".repeat(513), { message: "longer than 512 characters", at: 512 }],
])("wrong: %p", (filter, wrong) => {
  expect(problem(filter)).toEqual(wrong);
});

test("any text is a filter or is refused at a place in it", () => {
  const piece = fc.constantFrom(
    "state",
    ":",
    "=",
    "!",
    "|",
    " ",
    '"',
    "<",
    ">",
    "gpu",
    "9",
    "a",
    "é",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const filter = pieces.join("");
      try {
        expect(chosen(filter).length).toBeLessThanOrEqual(ROWS.length);
      } catch (error) {
        if (!(error instanceof FilterError)) throw error;
        expect(error.at).toBeGreaterThanOrEqual(0);
        expect(error.at).toBeLessThanOrEqual(filter.length);
      }
    }),
  );
});
