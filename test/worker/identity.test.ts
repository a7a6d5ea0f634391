import { expect, test } from "bun:test";
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { takeSlot, type SlotOptions } from "../../src/worker/identity.ts";
import { spawnProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/worker.ts";

const options = (dataDir: string, more: Partial<SlotOptions> = {}): SlotOptions => ({
  dataDir,
  machineId: "machine",
  hostname: "gpu-box.lan",
  name: null,
  command: ["vllm", "serve", "m"],
  ...more,
});

test("two workers with the same command are two; one that comes back is the same", () => {
  using dir = tempDir();
  const first = takeSlot(options(dir.path));
  using second = takeSlot(options(dir.path));
  expect([first.name, second.name]).toEqual(["gpu-box", "gpu-box-2"]);
  expect(first.workerId).not.toBe(second.workerId);
  first[Symbol.dispose]();
  using again = takeSlot(options(dir.path));
  expect([again.name, again.workerId]).toEqual([first.name, first.workerId]);
});

test("another command is another worker, even when the slot of the first is free", () => {
  using dir = tempDir();
  const first = takeSlot(options(dir.path));
  first[Symbol.dispose]();
  using other = takeSlot(options(dir.path, { command: ["ollama", "serve"] }));
  expect([other.name, other.workerId === first.workerId]).toEqual(["gpu-box-2", false]);
});

test("a chosen name picks its slot, whatever the command, and is not given twice", () => {
  using dir = tempDir();
  const first = takeSlot(options(dir.path, { name: "a100" }));
  expect(first.name).toBe("a100");
  expect(() => takeSlot(options(dir.path, { name: "a100" }))).toThrow(
    `a worker named a100 already runs on this machine (pid ${process.pid})`,
  );
  first[Symbol.dispose]();
  using again = takeSlot(options(dir.path, { name: "a100", command: ["other"] }));
  expect(again.workerId).toBe(first.workerId);
});

test("machines that share a home directory do not share identities", () => {
  using dir = tempDir();
  using here = takeSlot(options(dir.path));
  using there = takeSlot(options(dir.path, { machineId: "another", hostname: "other" }));
  expect([there.name, there.workerId === here.workerId]).toEqual(["other", false]);
});

test("a slot file that was cut off is made anew", () => {
  using dir = tempDir();
  const first = takeSlot(options(dir.path));
  first[Symbol.dispose]();
  writeFileSync(path.join(first.dir, "slot.json"), '{"worker_id":"');
  using again = takeSlot(options(dir.path));
  expect(again.dir).toBe(first.dir);
  expect(again.workerId).not.toBe(first.workerId);
});

test("what is kept is for the owner's eyes only", () => {
  using dir = tempDir();
  using slot = takeSlot(options(path.join(dir.path, "data")));
  expect(statSync(slot.dir).mode & 0o777).toBe(0o700);
  expect(statSync(path.join(slot.dir, "slot.json")).mode & 0o777).toBe(0o600);
});

test("odd host names and machine ids stay inside the data directory and make sound names", () => {
  using dir = tempDir();
  using slot = takeSlot(options(dir.path, { machineId: "../../etc", hostname: "_-..x y\u001b" }));
  expect(slot.dir.startsWith(path.join(dir.path, "workers"))).toBe(true);
  expect(slot.name).toBe("worker");
  expect(readdirSync(dir.path)).toEqual(["workers"]);
});

test("a data directory that cannot be written says so and what to do", () => {
  using dir = tempDir();
  const file = path.join(dir.path, "file");
  writeFileSync(file, "");
  expect(() => takeSlot(options(file))).toThrow("cannot keep the worker's identity in");
});

test("a killed process leaves no lock, and its children do not hold it", async () => {
  using dir = tempDir();
  const source = `
    import { takeSlot } from ${JSON.stringify(path.resolve(import.meta.dir, "../../src/worker/identity.ts"))};
    const slot = takeSlot(${JSON.stringify(options(dir.path, { name: "x" }))});
    const child = Bun.spawn(["sleep", "60"], { detached: true, stdio: ["ignore", "ignore", "ignore"] });
    console.log("locked " + child.pid);
    setInterval(() => {}, 1000);
  `;
  const script = path.join(dir.path, "hold.ts");
  writeFileSync(script, source);
  await using holder = spawnProcess([process.execPath, script]);
  await holder.waitForLine(/locked (\d+)/);
  expect(() => takeSlot(options(dir.path, { name: "x" }))).toThrow("already runs");
  holder.kill("SIGKILL");
  await holder.finished.catch(() => null);
  using mine = takeSlot(options(dir.path, { name: "x" }));
  expect(existsSync(mine.dir)).toBe(true);
});
