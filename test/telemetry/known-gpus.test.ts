import { expect, test } from "bun:test";
import { computeProcesses, listGpus } from "../../src/telemetry/known-gpus.ts";
import { printing, toolDir, writeTool } from "./fake-tools.ts";

const AMD = JSON.stringify([{ gpu: 0, bdf: "0000:05:00.0", uuid: "00ff74a1-0000-1000-80dd" }]);

test("NVIDIA's GPUs and their MIG instances", async () => {
  using dir = toolDir({ list: printing("h100-mig-list.txt") });
  const gpus = await listGpus({ path: dir.path });
  expect(gpus?.map(({ uuid, index, vendor }) => [uuid.slice(0, 4), index, vendor])).toEqual([
    ["GPU-", 0, "nvidia"],
    ["MIG-", 0, "nvidia"],
    ["MIG-", 0, "nvidia"],
    ["MIG-", 0, "nvidia"],
  ]);
});

test("AMD's, by either tool", async () => {
  using dir = toolDir();
  writeTool(dir.path, "rocm-smi", `echo '{"card2": {"Unique ID": "0x1234abcd"}}'`);
  expect(await listGpus({ path: dir.path })).toMatchObject([
    { uuid: "GPU-1234abcd", index: 2, vendor: "amd" },
  ]);
  writeTool(dir.path, "amd-smi", `echo '${AMD}'`);
  expect(await listGpus({ path: dir.path })).toMatchObject([
    { uuid: "00ff74a1-0000-1000-80dd", index: 0, vendor: "amd" },
  ]);
});

test("no tool, one that fails, one that hangs, one that lists nothing: not known", async () => {
  using none = toolDir();
  using fails = toolDir({ list: "echo 'no driver'; exit 9", apps: "exit 9" });
  using hangs = toolDir({ list: "exec /bin/sleep 604", apps: "exec /bin/sleep 604" });
  using empty = toolDir({ list: "echo 'No devices found.'", apps: "echo 'No devices found.'" });
  for (const { path } of [none, fails, hangs, empty]) {
    expect(await listGpus({ path, timeoutMs: 200 })).toBeNull();
    expect(await computeProcesses({ path, timeoutMs: 200 })).toBeNull();
  }
});

test("processes on GPUs of both makers", async () => {
  using nvidia = toolDir({ apps: printing("apps.csv") });
  expect((await computeProcesses({ path: nvidia.path }))?.map(({ pid }) => pid)).toEqual([
    10_291, 10_309, 10_400,
  ]);
  using amd = toolDir();
  const process = { pid: 42, memory_usage: { vram_mem: { value: 7, unit: "B" } } };
  const processes = [{ gpu: 0, process_list: [{ process_info: process }] }];
  const script = `case "$1" in list) echo '${AMD}';; process) echo '${JSON.stringify(processes)}';; esac`;
  writeTool(amd.path, "amd-smi", script);
  expect(await computeProcesses({ path: amd.path })).toEqual([
    { pid: 42, gpu: "00ff74a1-0000-1000-80dd", memoryBytes: 7 },
  ]);
});
