import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { processesWithEnvironment, spawnProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";

const SCRIPT = resolve(import.meta.dir, "../../../scripts/drill.ts");
let temporary = "";
beforeAll(() => {
  temporary = mkdtempSync(join(tmpdir(), "drill-test-"));
});
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

/** Small, and in a folder and with a mark of its own. */
function start(mark: string, ...words: string[]) {
  const small = ["--workers", "3", "--clients", "4", "--requests", "5"];
  return spawnProcess([process.execPath, SCRIPT, ...small, ...words], {
    env: { TMPDIR: temporary, DRILL_TEST: mark },
  });
}

async function expectNothingLeft(mark: string): Promise<void> {
  await waitFor(() => processesWithEnvironment(`DRILL_TEST=${mark}`).length === 0);
  expect(readdirSync(temporary)).toEqual([]);
}

test("a drill tells what it saw and leaves nothing behind", async () => {
  const mark = crypto.randomUUID();
  await using drill = start(mark, "--only", "engine-killed", "--json");
  const { stdout } = await drill.finished;
  const { drills } = JSON.parse(stdout);
  expect(drills).toMatchObject([{ drill: "engine-killed", hung: 0, engine_deaths: 1 }]);
  expect(drills[0].answers + drills[0].errors).toBe(drills[0].requests);
  await expectNothingLeft(mark);
}, 60_000);

test("Ctrl-C in the middle ends all of it", async () => {
  const mark = crypto.randomUUID();
  await using drill = start(mark, "--only", "worker-stopped");
  await drill.waitForLine("worker-stopped:", { timeoutMs: 30_000 });
  drill.kill("SIGINT");
  const { code, stderr } = await drill.finished;
  expect([code, stderr]).toEqual([130, expect.stringContaining("error: interrupted")]);
  await expectNothingLeft(mark);
}, 60_000);

test("--list names the drills, an unknown one is refused with them", async () => {
  await using list = spawnProcess([process.execPath, SCRIPT, "--list"]);
  const { code, stdout } = await list.finished;
  expect([code, stdout]).toEqual([0, expect.stringContaining("rolling-restart")]);
  await using refused = spawnProcess([process.execPath, SCRIPT, "--only", "nap"]);
  const end = await refused.finished;
  expect([end.code, end.stderr]).toEqual([2, expect.stringContaining('no drill is called "nap"')]);
});
