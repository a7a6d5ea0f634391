import { expect, test } from "bun:test";
import { inContainers, isOfEngine } from "../../../src/engine/process/owned-process.ts";
import { ENGINE_MARK } from "../../../src/engine/process/proc.ts";
import { waitFor } from "../../helpers/wait.ts";

const NOBODY = { engineId: null, pid: null, containers: [] };
const ID = "0123456789abcdef".repeat(4);

test("by its mark, also when its parent is gone", async () => {
  const child = Bun.spawn(["/bin/sleep", "60"], { env: { [ENGINE_MARK]: "e-1" } });
  try {
    // The variables are those of the new program only once it has replaced the copy of this one.
    await waitFor(() => isOfEngine(child.pid, { ...NOBODY, engineId: "e-1" }));
    expect(await isOfEngine(child.pid, { ...NOBODY, engineId: "e-2" })).toBe(false);
    expect(await isOfEngine(child.pid, NOBODY)).toBe(false);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
});

test("by its parents", async () => {
  const here = { ...NOBODY, pid: process.ppid };
  expect(await isOfEngine(process.pid, here)).toBe(true);
  expect(await isOfEngine(process.ppid, { ...NOBODY, pid: process.pid })).toBe(false);
});

test("a process that is gone, or in no container, is nobody's", async () => {
  const child = Bun.spawn(["/bin/true"]);
  await child.exited;
  expect(await isOfEngine(child.pid, { engineId: "e", pid: 1, containers: [ID] })).toBe(false);
  expect(await isOfEngine(process.pid, { ...NOBODY, containers: [ID] })).toBe(false);
});

test.each([
  `0::/system.slice/docker-${ID}.scope`,
  `12:pids:/docker/${ID}\n11:cpu:/docker/${ID}`,
  `0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-${ID}.scope/container`,
  `0::/kubepods/burstable/pod12/${ID}`,
  `0::/system.slice/nerdctl-${ID}.scope`,
])("by its container: %s", (groups) => {
  expect(inContainers(groups, [ID])).toBe(true);
  expect(inContainers(groups, ["f".repeat(64)])).toBe(false);
  expect(inContainers("0::/user.slice/session-1.scope", [ID])).toBe(false);
});
