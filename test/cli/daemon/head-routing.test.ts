import { expect, test } from "bun:test";
import { HEAD_OPTIONS } from "../../../src/cli/commands/head-options.ts";
import { readRouting } from "../../../src/cli/daemon/head-routing.ts";
import { createOptions } from "../../../src/cli/base/options.ts";

function read(routing: string[], tuning?: string, env: Record<string, string> = {}) {
  const flags = new Map([["routing", routing]]);
  if (tuning !== undefined) flags.set("routing-tuning", [tuning]);
  return readRouting(createOptions(HEAD_OPTIONS, { flags, env }));
}

test("without a word it is the score, with its defaults", () => {
  expect(read([])).toEqual({ policy: "auto", rules: [], tuning: { g: 0.1, k: 8 } });
});

test("one policy for all, others for some, in their order; slashes and colons belong to names", () => {
  expect(read(["least-load", "Qwen/*=random", "a:7b=sticky", "m=auto"], "k=4")).toEqual({
    policy: "least-load",
    rules: [
      { pattern: "Qwen/*", policy: "random" },
      { pattern: "a:7b", policy: "sticky" },
      { pattern: "m", policy: "auto" },
    ],
    tuning: { g: 0.1, k: 4 },
  });
});

test("a variable says the same, with commas", () => {
  const env = { LLMNODE_ROUTING: "random,m=auto", LLMNODE_ROUTING_TUNING: "g=0.05,k=0" };
  expect(read([], undefined, env)).toEqual({
    policy: "random",
    rules: [{ pattern: "m", policy: "auto" }],
    tuning: { g: 0.05, k: 0 },
  });
});

test.each([
  [
    ["rond-robin"],
    undefined,
    '--routing: unknown policy "rond-robin", did you mean "round-robin"?',
  ],
  [["m=stiky"], undefined, '--routing: unknown policy "stiky", did you mean "sticky"?'],
  [["m="], undefined, '--routing: unknown policy ""; policies: auto, least-load'],
  [["fastest"], undefined, '--routing: unknown policy "fastest"; policies: auto, least-load'],
  [["=auto"], undefined, '--routing needs a model before "="'],
  [["a\u001b[2Jb"], undefined, "--routing: unknown policy"],
  [Array.from({ length: 257 }, (_, i) => `m${i}=auto`), undefined, "more than 256 models"],
  [[], "g=11", "--routing-tuning needs a g from 0 to 10"],
  [[], "k=-1", "--routing-tuning needs a k from 0 to 1000"],
  [[], "k=1e3", "--routing-tuning needs a k from 0 to 1000"],
  [[], "k", "--routing-tuning needs a k from 0 to 1000"],
  [[], "q=1", "--routing-tuning needs g=<seconds> and k=<number>"],
  [[], "g=1=2", "--routing-tuning needs g=<seconds> and k=<number>"],
] as const)("%j %p is refused in one clear line", (routing, tuning, message) => {
  let told = "";
  try {
    read([...routing], tuning);
  } catch (error) {
    told = error instanceof Error ? error.message : "";
  }
  expect(told).toContain(message);
  expect(told).not.toContain("\u001b");
  expect(told).not.toContain("\n");
});
