import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createProcesses, signalPid } from "../../../scripts/drill/processes.ts";
import { waitFor } from "../../helpers/wait.ts";

function isThere(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

test("the end takes all with it: stopped ones, deaf ones, and children in sessions of their own", async () => {
  const folder = mkdtempSync(join(tmpdir(), "drill-test-"));
  const logFile = join(folder, "log");
  const deaf = "trap '' TERM; setsid sleep 300 & echo child $!; while :; do sleep 0.1; done";
  let pids: number[] = [];
  try {
    const processes = createProcesses({ stopLimitMs: 300 });
    const options = { cwd: folder, logFile };
    const first = processes.start("deaf", ["sh", "-c", deaf], options);
    const second = processes.start("stopped", ["sleep", "300"], options);
    await waitFor(() => readFileSync(logFile, "utf8").includes("child"));
    const [, child = ""] = /child (\d+)/.exec(readFileSync(logFile, "utf8")) ?? [];
    pids = [first.pid, second.pid, Number(child)];
    expect(pids.map(isThere)).toEqual([true, true, true]);
    second.kill("SIGSTOP");
    await processes[Symbol.asyncDispose]();
    await waitFor(() => !pids.some(isThere));
    expect([first.isGone(), second.isGone()]).toEqual([true, true]);
  } finally {
    for (const pid of pids) signalPid(pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a signal to a process that has ended does nothing", async () => {
  const child = Bun.spawn(["true"]);
  await child.exited;
  expect(() => signalPid(child.pid, "SIGTERM")).not.toThrow();
});
