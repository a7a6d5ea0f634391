/** A head with simulated workers for `bench top`: it says what a head of that size would say. */

// bun scripts/bench/top/head.ts <workers> <what>: `changing`, every number in every frame; `still`,
// only the clock; `flipping`, between 8 and as many workers, so that viewers ask for another pace.

import type { WorkerRow } from "../../../src/protocol/watch-rows.ts";
import { startFakeHead } from "../../../test/top/fake-head.ts";
import { cluster, manyWorkers } from "../../../test/top/sample.ts";

export type HeadMode = "changing" | "still" | "flipping";

const CHANGE_MS = 100;
const FLIP_MS = 1000;

const [count = "8", mode = "changing"] = process.argv.slice(2);
const few = manyWorkers(8);
const all = manyWorkers(Number(count));
await using head = startFakeHead(all);

function changed(row: WorkerRow): WorkerRow {
  const some = (least: number, most: number) => least + Math.random() * (most - least);
  return {
    ...row,
    gpu_util_pct: some(5, 100),
    gpu_mem_used_bytes: some(0.3, 1) * (row.gpu_mem_total_bytes ?? 0),
    temp_c: some(40, 80),
    power_w: some(900, 5600),
    in_flight: Math.round(some(0, 90)),
    queue: Math.round(some(0, 20)),
    kv_pct: some(5, 100),
    requests_per_s: some(0, 20),
    output_tokens_per_s: some(100, 9000),
    ttft_ms: { p50: some(50, 900), p95: some(900, 4000) },
    seen_ms: some(0, 1000),
  };
}

let flips = 0;
if (mode === "changing" || mode === "flipping") {
  setInterval(() => {
    const { workers } = mode === "flipping" && flips % 2 === 0 ? few : all;
    head.sample = { ...cluster(), workers: workers.map(changed) };
    const point = {
      output_tokens_per_s: 10_000 + Math.random() * 9000,
      ttft_p95_ms: 500 + Math.random() * 3000,
      in_flight: Math.round(Math.random() * 400),
      queued: Math.round(Math.random() * 60),
    };
    head.more = { point: mode === "changing" ? point : null };
    // A pseudo-terminal takes some 64 KB before it takes nothing.
    if (mode === "flipping") head.push();
  }, CHANGE_MS);
}

/** How long a viewer takes to ask for another pace after the size has changed; its loop runs then. */
if (mode === "flipping") {
  setInterval(() => {
    flips += 1;
    const before = head.posts;
    const at = performance.now();
    const look = setInterval(() => {
      if (head.posts === before && performance.now() - at < FLIP_MS - CHANGE_MS) return;
      clearInterval(look);
      // The other size is sent at the next change.
      const waited = performance.now() - at - CHANGE_MS;
      process.stdout.write(
        `answered after ${head.posts === before ? "never" : Math.max(0, waited).toFixed(1)}\n`,
      );
    }, 1);
  }, FLIP_MS);
}
process.stdout.write(`head at ${head.url}\n`);
await new Promise<never>(() => {});
