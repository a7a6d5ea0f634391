import { expect, test } from "bun:test";
import { readStatus, statusLines } from "../../../src/cli/status/view.ts";

/** A head's status of so many workers, one of which in `states` is not ready. */
function status(count: number, states: Record<number, string>, models = 1) {
  const view = readStatus({
    schema: "llmnode.status/1",
    head: { version: "1" },
    workers: Array.from({ length: count }, (_, i) => ({
      name: `w${i}`,
      state: states[i] ?? "ready",
      engines: [{ kind: "vllm", state: "ready", replicas: [{ model: "m", state: "ready" }] }],
    })),
    models: Array.from({ length: models }, (_, i) => ({
      name: `m${i}`,
      ready: i === 30 ? 0 : 1,
      replicas: 1,
      in_flight: 0,
    })),
    services: [],
  });
  if (view === null) throw new Error("it is no status");
  return view;
}

const NARROW = { url: "http://h", columns: null };

test("a few are all shown", () => {
  const lines = statusLines(status(20, { 3: "lost" }), NARROW).join("\n");
  expect(lines.match(/^w\d+ /gm)).toHaveLength(20);
  expect(lines).not.toContain("more");
});

test("of many those in trouble are, in the order of all, and the rest is counted", () => {
  const lines = statusLines(status(300, { 7: "stale", 250: "lost" }, 45), NARROW);
  const text = lines.join("\n");
  const workers = [...text.matchAll(/^w(\d+) +(\w+) +-/gm)].map(([, i, state]) => [i, state]);
  expect(workers).toHaveLength(20);
  expect(workers).toContainEqual(["250", "lost"]);
  expect(workers[7]).toEqual(["7", "stale"]);
  expect(text).toMatch(/^m30 +0\/1/m);
  expect(text).toContain("300 workers, 44 of 45 models ready");
  expect(lines.slice(-2)).toEqual([
    "and 25 more models, ready: llmnode models",
    "and 280 more workers, ready: llmnode workers",
  ]);
  expect(lines.length).toBeLessThan(75);
});

test("where more are in trouble than there is room, the rest is not called ready", () => {
  const lost = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [i, "lost"]));
  expect(statusLines(status(60, lost), NARROW).at(-1)).toBe("and 40 more workers: llmnode workers");
});

test("--verbose shows all", () => {
  const lines = statusLines(status(60, {}), { ...NARROW, verbose: true }).join("\n");
  expect(lines.match(/^w\d+ +ready/gm)).toHaveLength(60);
});
