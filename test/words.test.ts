import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

const src = path.resolve(import.meta.dir, "../src");

/** Words of our own that the field has better ones for (`docs/glossary.md`); none makes a name. */
const OLD_WORDS: Record<string, string> = {
  anew: "again",
  attend: "runEngine",
  condemn: "markStalled",
  condemned: "marked as stalled",
  greeted: "onHello",
  framed: "onFrame",
  handover: "adopt",
  keeper: "supervisor loop",
  latch: "overload",
  latched: "overloaded",
  mend: "fix",
  nobody: "no client",
  obeyed: "handleKey",
  outlook: "waitDecision",
  party: "caller",
  recall: "reschedule",
  recalled: "rescheduled",
  recalls: "reschedules",
  takeover: "adopt",
  told: "configured",
  said: "reported",
  want: "replica request",
  way: "route",
  ways: "routes",
  whoever: "the caller",
  wish: "request",
};
/** Whole names, of words that are fine inside others. */
const OLD_NAMES: Record<string, string> = {
  Asked: "RequestContext",
  Gone: "CancelSignal",
  Hold: "AttemptScope",
  Leaving: "CancelSignal",
  LogDesk: "LogService",
  Passing: "Throughput",
  Standing: "ScoreInput",
  Tries: "RetryState",
  WORKER_ITSELF: "WORKER_TARGET",
  hasHope: "canRecover",
  mayCome: "canRecover",
  WayFinder: "RouteFinder",
};

/** Names that a file makes, its own among them; texts and comments do not count. */
export function namesIn(file: string, text: string): string[] {
  const code = text
    .replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, " ")
    .replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g, '""');
  const declared = code.matchAll(
    /\b(?:const|let|var|function\*?|class|interface|type|as)\s+([A-Za-z_$][\w$]*)|^\s*(?:readonly\s+)?([A-Za-z_$][\w$]*)\??\s*[:(<]/gm,
  );
  const base = path.basename(file).replace(/\.tsx?$/, "");
  return [base, ...[...declared].map((match) => match[1] ?? match[2] ?? "")];
}

/** The old words in a name, with what to say instead. */
export function oldWordsIn(name: string): string[] {
  if (Object.hasOwn(OLD_NAMES, name)) return [`${name}: say ${OLD_NAMES[name]}`];
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .split(/[\s_-]+/)
    .map((word) => word.toLowerCase());
  return words.flatMap((word) =>
    Object.hasOwn(OLD_WORDS, word) ? [`${name}: say ${OLD_WORDS[word]}`] : [],
  );
}

test("names use the field's words", () => {
  const found = new Set<string>();
  for (const file of readdirSync(src, { recursive: true, encoding: "utf8" })) {
    if (!/\.tsx?$/.test(file)) continue;
    const text = readFileSync(path.join(src, file), "utf8");
    for (const name of namesIn(file, text)) {
      for (const fault of oldWordsIn(name)) found.add(`${file}: ${fault}`);
    }
  }
  expect([...found].toSorted()).toEqual([]);
});

test("old words are found in names of every kind, and in nothing else", () => {
  const text = [
    "/** A party. */",
    "interface Party { latched: boolean; wishOf(a: number): void }",
    "const said = 'told' + `as told`; // mend",
    "  function findWay() {}",
  ].join("\n");
  const found = namesIn("head/keeper.ts", text).flatMap(oldWordsIn);
  expect(found.map((line) => line.split(":")[0])).toEqual(["keeper", "Party", "said", "findWay"]);
  expect(oldWordsIn("isWanted")).toEqual([]);
  expect(oldWordsIn("ALWAYS")).toEqual([]);
});
