import { expect, test } from "bun:test";
import { statusLines } from "../../../src/cli/status/view.ts";
import type { RowState } from "../../../src/protocol/watch-rows.ts";
import { engine, model, replica, status as statusOf, worker } from "./rows.ts";

/** A head's status of so many workers, one of which in `states` is not ready. */
function status(count: number, states: Record<number, RowState>, models = 1) {
  return statusOf(
    Array.from({ length: count }, (_, i) =>
      worker(`w${i}`, {
        state: states[i] ?? "ready",
        route: null,
        engines: [engine(`w${i}/1`, { replicas: [replica("m")] })],
      }),
    ),
    Array.from({ length: models }, (_, i) =>
      model(`m${i}`, { ready: i === 30 ? 0 : 1, replicas: 1, in_flight: 0 }),
    ),
  );
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
  const lost: Record<number, RowState> = {};
  for (let i = 0; i < 40; i += 1) lost[i] = "lost";
  expect(statusLines(status(60, lost), NARROW).at(-1)).toBe("and 40 more workers: llmnode workers");
});

test("--verbose shows all", () => {
  const lines = statusLines(status(60, {}), { ...NARROW, verbose: true }).join("\n");
  expect(lines.match(/^w\d+ +ready/gm)).toHaveLength(60);
});
