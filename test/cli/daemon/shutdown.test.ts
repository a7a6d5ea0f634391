import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { spawnProcess } from "../../helpers/process.ts";

const FIXTURE = resolve(import.meta.dir, "../fixtures/daemon.ts");

function daemon(behaviour: string) {
  return spawnProcess([process.execPath, FIXTURE, behaviour]);
}

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s stops gracefully with 0",
  async (signal) => {
    await using child = daemon("plain");
    await child.waitForLine("up");
    child.kill(signal);
    const { code, stdout, stderr } = await child.finished;
    expect([code, stdout]).toEqual([0, "up\nstopping\nstopped\ncode 0\n"]);
    expect(stderr).toContain("draining 3 requests, Ctrl-C again to stop now");
  },
);

test("a second signal forces, still with 0", async () => {
  await using child = daemon("slow");
  await child.waitForLine("up");
  child.kill("SIGINT");
  await child.waitForLine("stopping");
  await Bun.sleep(80); // more than the echo of a signal
  child.kill("SIGTERM");
  const { code, stdout } = await child.finished;
  expect([code, stdout]).toEqual([0, "up\nstopping\nforced\nstopped by force\ncode 0\n"]);
});

test("the same signal come twice, and SIGHUP, are no second thought", async () => {
  await using child = daemon("slow");
  await child.waitForLine("up");
  child.kill("SIGTERM");
  child.kill("SIGTERM");
  child.kill("SIGINT");
  await child.waitForLine("stopping");
  await Bun.sleep(80);
  child.kill("SIGHUP");
  await Bun.sleep(80);
  expect(child.stdout()).toBe("up\nstopping\n");
});

test("a signal may end it in a way of its own", async () => {
  await using child = daemon("plain");
  await child.waitForLine("up");
  child.kill("SIGUSR2");
  const { code, stdout, stderr } = await child.finished;
  expect([code, stdout]).toEqual([0, "up\nhanding over\nhanded over\ncode 0\n"]);
  expect(stderr).toContain("handing over, Ctrl-C again to stop now");
});

test("such a signal is no second thought, and one during the start gives the start up", async () => {
  await using stopping = daemon("slow");
  await stopping.waitForLine("up");
  stopping.kill("SIGTERM");
  await stopping.waitForLine("stopping");
  await Bun.sleep(80); // more than the echo of a signal
  stopping.kill("SIGUSR2");
  await Bun.sleep(80);
  expect(stopping.stdout()).toBe("up\nstopping\n");
  await using starting = daemon("slow-start");
  await starting.waitForLine("starting");
  starting.kill("SIGUSR2");
  expect((await starting.finished).stdout).toBe("starting\ncode 0\n");
});

test("a third signal ends what cannot even be forced", async () => {
  await using child = daemon("hang");
  await child.waitForLine("up");
  child.kill("SIGINT");
  await child.waitForLine("stopping");
  await Bun.sleep(80);
  child.kill("SIGINT");
  await child.waitForLine("forced");
  child.kill("SIGINT");
  expect((await child.finished).code).toBe(1);
});

test("a signal during the start gives the start up", async () => {
  await using child = daemon("slow-start");
  await child.waitForLine("starting");
  child.kill("SIGTERM");
  const { code, stdout } = await child.finished;
  expect([code, stdout]).toEqual([0, "starting\ncode 0\n"]);
});

test("an ignored signal is told and ignored", async () => {
  await using child = daemon("stubborn");
  await child.waitForLine("up");
  child.kill("SIGTERM");
  await child.waitForLine("SIGTERM is ignored");
  child.kill("SIGINT");
  expect((await child.finished).code).toBe(0);
});

test("a failed start throws", async () => {
  await using child = daemon("cannot-start");
  expect((await child.finished).stdout).toBe("threw port_in_use\n");
});

test("what ends by itself is cleaned up; its reason is thrown", async () => {
  await using done = daemon("ends");
  expect((await done.finished).stdout).toBe("up\nstopping\nstopped\ncode 0\n");
  await using refused = daemon("refused");
  expect((await refused.finished).stdout).toBe("up\nstopping\nstopped\nthrew join_failed\n");
});

test.each(["throws", "rejects"])("a bug that %s is logged with an id, exit 70", async (how) => {
  await using child = daemon(how);
  const { code, stdout, stderr } = await child.finished;
  expect([code, stdout]).toEqual([70, "up\nstopping\nstopped by force\ncode 70\n"]);
  expect(stderr).toMatch(/error: internal error.* id=[0-9a-f]{8} .*error="TypeError: oops"/);
});
