import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { spawnProcess } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";
import { startFakeHead } from "./fake-head.ts";
import { manyWorkers, worker } from "./sample.ts";

const READER = new URL("../../scripts/bench/top/reader.ts", import.meta.url).pathname;
const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;
/** Some 3 KB each: more than a pseudo-terminal takes. */
const FRAMES = 60;

/** Every number of every worker is another one. */
function changed(n: number) {
  const sample = manyWorkers(40);
  const workers = sample.workers.map(({ name }, i) =>
    worker(name, {
      in_flight: (n * 37 + i * 11) % 997,
      queue: (n * 13 + i) % 89,
      kv_pct: (n * 7 + i * 3) % 100,
      gpu_util_pct: (n * 29 + i * 17) % 100,
      output_tokens_per_s: 1000 + ((n * 613 + i * 71) % 8000),
    }),
  );
  return { ...sample, workers };
}

test("a terminal that was stopped keeps it neither from asking nor from ending", async () => {
  await using head = startFakeHead(changed(0));
  head.ticking = false;
  const argv = [process.execPath, READER, "160", "45", process.execPath, MAIN, "top"];
  await using reader = spawnProcess([...argv, "--head", head.url]);
  const [, pid = ""] = await reader.waitForLine(/^top is (\d+)/);
  await reader.waitForLine(/^screen \d\d:/);
  reader.kill("SIGSTOP");
  for (let n = 1; n <= FRAMES; n += 1) {
    head.sample = changed(n);
    head.push();
    await Bun.sleep(30);
  }
  // So many workers make it ask for another pace.
  head.sample = manyWorkers(200);
  head.push();
  await waitFor(() => head.query?.interval_ms === 2000, { what: "another pace" });
  process.kill(Number(pid), "SIGTERM");
  await waitFor(() => hasEnded(pid), { what: "its end", timeoutMs: 5000 });
  reader.kill("SIGCONT");
  expect((await reader.finished).code).toBe(0);
}, 30_000);

/** Ended, though whoever started it is stopped and has not taken note. */
function hasEnded(pid: string): boolean {
  const path = `/proc/${pid}/stat`;
  return !existsSync(path) || / Z /.test(readFileSync(path, "utf8"));
}
