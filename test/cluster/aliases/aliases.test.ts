import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseAlias } from "../../../src/cluster/aliases/text.ts";
import {
  type Alias,
  ALIAS_LIMITS,
  findAlias,
  resolveAlias,
  withAlias,
} from "../../../src/cluster/aliases/aliases.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";

/** A table as it grows by one command after the other. */
function tableOf(...specs: string[]): Map<string, Alias> {
  let table = new Map<string, Alias>();
  for (const spec of specs) table = withAlias(table, parseAlias(spec));
  return table;
}

function models(table: ReadonlyMap<string, Alias>, name: string, random: (() => number) | null) {
  const alias = findAlias(table, name);
  return alias && resolveAlias(table, alias, random).map(({ model }) => model);
}

function failure(run: () => unknown): [code: string, message: string] {
  try {
    run();
  } catch (error) {
    if (error instanceof LlmnodeError) return [error.code, error.message];
    throw error;
  }
  throw new Error("nothing was thrown");
}

test.each([
  ["fast=Qwen/Qwen3-8B", [["Qwen/Qwen3-8B", null, []]]],
  [
    "fast=A,B,C",
    [
      ["A", null, []],
      ["B", null, []],
      ["C", null, []],
    ],
  ],
  [
    "fast=A:80,B:20",
    [
      ["A", 80, []],
      ["B", 20, []],
    ],
  ],
  ["fast=A:100", [["A", 100, []]]],
  ["fast=llama3:8b", [["llama3:8b", null, []]]],
  ["fast=llama3%3A8", [["llama3:8", null, []]]],
  ["fast=gpt-4:2024", [["gpt-4:2024", null, []]]],
  ["fast=a%2Cb", [["a,b", null, []]]],
  ["fast=a%3Fb%26c%25d", [["a?b&c%d", null, []]]],
  ["fast=a=b", [["a=b", null, []]]],
  [
    "think=A?chat_template_kwargs.enable_thinking=true",
    [["A", null, [[["chat_template_kwargs", "enable_thinking"], "true"]]]],
  ],
  [
    'x=A?a.b=1&c="x"&d=text&e=&f=0.10&g=9007199254740993&h={"i":[1]}',
    [
      [
        "A",
        null,
        [
          [["a", "b"], "1"],
          [["c"], '"x"'],
          [["d"], '"text"'],
          [["e"], '""'],
          [["f"], "0.10"],
          [["g"], "9007199254740993"],
          [["h"], '{"i":[1]}'],
        ],
      ],
    ],
  ],
  [
    "x=A?stop=[1%2C2]&a%2Eb=x%3D%26%3Fy%3A5&c=1=2",
    [
      [
        "A",
        null,
        [
          [["stop"], "[1,2]"],
          [["a.b"], '"x=&?y:5"'],
          [["c"], '"1=2"'],
        ],
      ],
    ],
  ],
  [
    "x=A?t=0:50,A?t=1:50",
    [
      ["A", 50, [[["t"], "0"]]],
      ["A", 50, [[["t"], "1"]]],
    ],
  ],
])("%s is understood", (spec, expected) => {
  const { name, text, targets } = parseAlias(spec);
  expect(`${name}=${text}`).toBe(spec);
  const read = targets.map(({ model, weight, preset }) => [
    model,
    weight,
    preset.map(({ path, json }) => [path, json]),
  ]);
  expect<unknown>(read).toEqual(expected);
});

test.each([
  ["fast", "is written <name>=<model>"],
  ["=A", "name must not be empty"],
  [" fast=A", "no spaces around it"],
  ["fa\u001bst=A", "all printable"],
  [`${"n".repeat(201)}=A`, "at most 200 characters"],
  ["fast=", "fast needs a model"],
  ["fast=A,,B", "model must not be empty"],
  ["fast=?a=1", "model must not be empty"],
  [`fast=${"m".repeat(201)}`, "at most 200 characters"],
  [`fast=${"m,".repeat(2050)}m`, "longer than 4096 characters"],
  [`fast=${"m,".repeat(16)}m`, "17 targets; at most 16"],
  ["fast=A:80,B", "a weight or none: A has one, B not"],
  ["fast=A:80,B:30", "weights of fast add up to 110, not to 100"],
  ["fast=A:10", "weights of fast add up to 10, not to 100"],
  ["fast=A:0,B:100", "a weight is 1 to 100, not 0"],
  ["fast=A:101", "a weight is 1 to 100, not 101"],
  ["fast=A:1,B:99,C:1", "add up to 101"],
  ["fast=a%zz", "no escape"],
  ["fast=A?", "a preset is written"],
  ["fast=A?a", "a preset is written"],
  ["fast=A?=1", "a preset is written"],
  ["fast=A?a..b=1", "a preset is written"],
  ["fast=A?a=1&", "a preset is written"],
  ["fast=A?a.b.c.d.e.f.g.h.i=1", "deeper than 8"],
  ["fast=A?a=1&a=2", "a and a collide"],
  ["fast=A?a=1&a.b=2", "a and a.b collide"],
  ["fast=A?a.b=1&a=2", "a.b and a collide"],
  ["fast=A?model=x", "cannot set model"],
  ["fast=A?stream=true", "cannot set stream"],
  ["fast=A?stream_options.include_usage=false", "cannot set stream_options"],
  ["fast=A?backend=vllm", "cannot set backend"],
  [`fast=A?${Array.from({ length: 17 }, (_, i) => `k${i}=1`).join("&")}`, "17 preset keys"],
])("%s is refused", (spec, words) => {
  const [code, message] = failure(() => parseAlias(spec));
  expect(code).toBe("bad_request");
  expect(message).toContain(words);
  expect(message).not.toMatch(/[\n\u001b]/);
});

test("any text is either understood or refused in one line", () => {
  const piece = fc.constantFrom("a", "=", "?", "&", ",", ":", "5", "100", ".", "%", "2C", '"', "{");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const spec = pieces.join("");
      try {
        const { targets } = parseAlias(spec);
        for (const { preset } of targets) for (const { json } of preset) JSON.parse(json);
      } catch (error) {
        expect(error).toBeInstanceOf(LlmnodeError);
      }
    }),
  );
});

test.each([
  [["a=a"], "a would point to itself: a -> a"],
  [["a=b", "b=a"], "b would point to itself: b -> a -> b"],
  [["a=x,b", "b=c", "c=y,a:z"], null],
  [["a=x,b", "b=c", "c=y,a"], "c would point to itself: c -> a -> b -> c"],
])("%j: loops are shown", (specs, message) => {
  const grow = () => tableOf(...specs);
  if (message === null) expect(grow().size).toBe(specs.length);
  else expect(failure(grow)).toEqual(["refused", message]);
});

test("eight aliases may stand one behind the other, wherever the ninth is put in", () => {
  const chain = Array.from({ length: 8 }, (_, i) => `n${i}=n${i + 1}`);
  const table = tableOf(...chain);
  expect(models(table, "n0", null)).toEqual(["n8"]);
  expect(failure(() => withAlias(table, parseAlias("first=n0")))).toEqual([
    "refused",
    "first would lead through 9 aliases; there may be 8",
  ]);
  expect(failure(() => withAlias(table, parseAlias("n8=last")))[1]).toContain("9 aliases");
  expect(models(withAlias(table, parseAlias("other=n1")), "other", null)).toEqual(["n8"]);
});

test("the models behind one alias, and all aliases, are bounded", () => {
  const wide = (name: string, target: string) => `${name}=${Array(16).fill(target).join(",")}`;
  const table = tableOf(wide("a", "x"), `b=${Array(4).fill("a").join(",")}`);
  expect(models(table, "b", null)).toEqual(["x"]);
  expect(failure(() => withAlias(table, parseAlias(wide("c", "a"))))[1]).toBe(
    "c would lead to 256 models; there may be 64",
  );
  // A change of an inner one may make an outer one too large.
  expect(failure(() => withAlias(table, parseAlias(wide("x", "y"))))[0]).toBe("refused");
  const limits = { ...ALIAS_LIMITS, maxAliases: 2 };
  expect(failure(() => withAlias(table, parseAlias("c=x"), limits))).toEqual([
    "refused",
    "there are 2 aliases already, the most allowed",
  ]);
  expect(withAlias(table, parseAlias("a=y"), limits).size).toBe(2);
});

test("a refused alias leaves the table as it was", () => {
  const table = tableOf("a=b");
  failure(() => withAlias(table, parseAlias("b=a")));
  expect([...table.keys()]).toEqual(["a"]);
});

test("names are found as clients write them", () => {
  const table = tableOf("fast=A", "v:latest=B", "v=C");
  expect(findAlias(table, "fast")?.name).toBe("fast");
  expect(findAlias(table, "fast:latest")?.name).toBe("fast");
  expect(findAlias(table, "v:latest")?.name).toBe("v:latest");
  expect(findAlias(table, "FAST")).toBeNull();
  expect(findAlias(table, "A")).toBeNull();
});

test.each([
  [0, ["A", "B", "C"]],
  [0.69, ["A", "B", "C"]],
  [0.7, ["B", "A", "C"]],
  [0.89, ["B", "A", "C"]],
  [0.9, ["C", "A", "B"]],
  [0.999_999, ["C", "A", "B"]],
  [null, ["A", "B", "C"]],
])("weights at %p: %j", (random, expected) => {
  // Written in another order than by weight.
  const table = tableOf("w=C:10,A:70,B:20");
  expect(models(table, "w", random === null ? null : () => random)).toEqual(expected);
});

test("each target is picked as often as its weight says", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 98 }), (first) => {
      const second = Math.max(1, Math.floor((100 - first) / 2));
      const weights = { A: first, B: second, C: 100 - first - second };
      const spec = Object.entries(weights).map(([model, weight]) => `${model}:${weight}`);
      const table = tableOf(`w=${spec.join(",")}`);
      const picked: Record<string, number> = {};
      for (let i = 0; i < 100; i += 1) {
        const [model = "?"] = models(table, "w", () => (i + 0.5) / 100) ?? [];
        picked[model] = (picked[model] ?? 0) + 1;
      }
      expect(picked).toEqual(weights);
    }),
    { numRuns: 30 },
  );
});

test("chains go through aliases in place, each model once", () => {
  const table = tableOf("small=S1,S2", "big=B1:60,small:40", "all=X,big,S2,Y");
  expect(models(table, "all", () => 0)).toEqual(["X", "B1", "S1", "S2", "Y"]);
  expect(models(table, "all", () => 0.9)).toEqual(["X", "S1", "S2", "B1", "Y"]);
});

test("an outer preset goes before an inner one, key by key", () => {
  const table = tableOf("inner=A?a.b=1&c=1&d.e=1,B", "outer=inner?a=2&d.f=2&g=2");
  const alias = findAlias(table, "outer");
  const [first, second] = alias ? resolveAlias(table, alias, null) : [];
  const read = (target = first) => target?.preset.map(({ path, json }) => [path.join("."), json]);
  expect(read()).toEqual([
    ["a", "2"],
    ["d.f", "2"],
    ["g", "2"],
    ["c", "1"],
    ["d.e", "1"],
  ]);
  expect(read(second)).toEqual([
    ["a", "2"],
    ["d.f", "2"],
    ["g", "2"],
  ]);
});

test("a loop that no command could make does not hang", () => {
  const alias = (spec: string) => parseAlias(spec);
  const table = new Map([
    ["a", alias("a=b,x")],
    ["b", alias("b=a,y")],
  ]);
  expect(models(table, "a", null)).toContain("x");
});
