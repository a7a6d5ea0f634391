import { expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  type GpuReading,
  type Gpus,
  type GpuSettings,
  startGpus,
} from "../../src/telemetry/gpus.ts";
import { waitFor } from "../helpers/wait.ts";
import { playing, printing, toolDir, writeSmi, writeTool } from "./fake-tools.ts";

const MIB = 1024 ** 2;

const FAST: Partial<GpuSettings> = {
  loop: {
    intervalMs: 50,
    firstLineMs: 500,
    silentMs: 300,
    backoffFirstMs: 30,
    backoffMaxMs: 100,
    absentRetryMs: 50,
    pollMs: 40,
  },
  processesMs: 50,
  migMs: 50,
  amdMs: 50,
  toolTimeoutMs: 1000,
  forgetMs: 2000,
};

function start(dir: string, more: Partial<GpuSettings> = {}): Gpus {
  return startGpus({
    path: dir,
    settings: { ...FAST, ...more, loop: { ...FAST.loop, ...more.loop } },
  });
}

async function when(gpus: Gpus, what: string, is: (reading: GpuReading) => boolean) {
  return waitFor(() => (is(gpus.read()) ? gpus.read() : null), { what });
}

const seen = (reading: GpuReading) => reading.gpus.length > 0;

/** The processes whose command names a folder of the test. */
function processesOf(dir: string): string[] {
  return readdirSync("/proc").filter((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      return readFileSync(`/proc/${entry}/cmdline`, "utf8").includes(dir);
    } catch {
      return false;
    }
  });
}

test("figures come, are renewed, and no program is left after the end", async () => {
  using dir = toolDir({ gpus: playing("h200.csv"), apps: printing("apps.csv") });
  {
    await using gpus = start(dir.path);
    const first = await when(gpus, "a GPU", seen);
    expect(first.problem).toBeNull();
    expect(first.gpus.map(({ gpu }) => gpu.name)).toEqual(["NVIDIA H200"]);
    const at = first.gpus[0]?.at ?? 0;
    await when(gpus, "a newer figure", ({ gpus: [entry] }) => (entry?.at ?? 0) > at);
    const { processes } = await when(gpus, "processes", (reading) => reading.processes !== null);
    expect(processes?.map(({ pid }) => pid)).toEqual([10_291, 10_309, 10_400]);
  }
  await waitFor(() => processesOf(dir.path).length === 0, { what: "no program" });
});

test("eight GPUs in any order are kept apart by UUID and shown by index", async () => {
  using dir = toolDir({ gpus: playing("eight-h100.csv") });
  await using gpus = start(dir.path);
  const { gpus: all } = await when(gpus, "all eight", (reading) => reading.gpus.length === 8);
  expect(all.map(({ gpu }) => [gpu.uuid.slice(0, 6), gpu.utilizationPercent])).toEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [`GPU-d${i}`, i * 10]),
  );
});

test("MIG instances come with their memory and processes, beside their GPU", async () => {
  using dir = toolDir({
    gpus: playing("h100-mig.csv"),
    list: printing("h100-mig-list.txt"),
    xml: printing("h100-mig.xml"),
    apps: "echo 'gpu_uuid, pid, used_gpu_memory [MiB]'",
  });
  await using gpus = start(dir.path);
  const reading = await when(gpus, "instances", (now) => now.gpus.length === 4 && !!now.processes);
  expect(reading.gpus.map(({ gpu }) => gpu.migParent !== null)).toEqual([false, true, true, true]);
  expect(reading.gpus[1]?.gpu.memoryUsedBytes).toBe(11_091 * MIB);
  expect(reading.processes?.map(({ pid }) => pid)).toEqual([21_180, 21_198, 300]);
});

test("a GPU that shares the machine's memory shows the machine's", async () => {
  using dir = toolDir({ gpus: playing("gb10.csv") });
  const memoryFile = path.join(dir.path, "meminfo");
  writeFileSync(memoryFile, "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    400 kB\n");
  await using gpus = start(dir.path, { memoryFile });
  const { gpus: all } = await when(gpus, "a GPU", seen);
  expect(all[0]?.gpu).toMatchObject({
    unified: true,
    memoryTotalBytes: 1000 * 1024,
    memoryUsedBytes: 600 * 1024,
  });
});

test("no tool at all is a reason, and a tool that comes later is found", async () => {
  using dir = toolDir();
  await using gpus = start(dir.path);
  const { problem } = await when(gpus, "a reason", (reading) => reading.problem !== null);
  expect(problem).toBe("there is no nvidia-smi, amd-smi or rocm-smi on the PATH");
  writeSmi(dir.path, { gpus: playing("h200.csv") });
  const reading = await when(gpus, "a GPU", seen);
  expect(reading.problem).toBeNull();
});

const FAILURES: [string, string, string][] = [
  [
    "the driver is of another version",
    "echo 'Failed to initialize NVML: Driver/library version mismatch'; echo 'NVML library version: 590.48'; exit 18",
    "Failed to initialize NVML: Driver/library version mismatch",
  ],
  [
    "the driver is not there",
    `echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver." ; exit 9`,
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
  ],
  ["there is no device", "echo 'No devices were found'; exit 6", "No devices were found"],
  ["its words are on stderr", "echo 'no permission' >&2; exit 4", "no permission"],
  ["it says nothing", "exit 3", "nvidia-smi ended with exit code 3"],
  ["it prints what it likes", "printf '\\033[31mgar\\001bage\\n'; exit 0", "gar bage"],
];

test.each(FAILURES)("%s: the reason, and another try", async (_, script, reason) => {
  using dir = toolDir({ gpus: script });
  await using gpus = start(dir.path);
  const { problem, gpus: none } = await when(gpus, reason, (now) => now.problem === reason);
  expect([problem, none]).toEqual([reason, []]);
  // The driver is mended.
  writeSmi(dir.path, { gpus: playing("h200.csv") });
  expect((await when(gpus, "a GPU", seen)).problem).toBeNull();
});

test("one that never answers is a state with a reason; it is ended and tried again", async () => {
  using dir = toolDir({ gpus: `echo x >> ${"$0"}.starts; exec /bin/sleep 600` });
  {
    await using gpus = start(dir.path, { loop: { firstLineMs: 60 } });
    await when(gpus, "a reason", ({ problem }) => /gave no answer in 0\.1s/.test(problem ?? ""));
    const starts = path.join(dir.path, "nvidia-smi.starts");
    await waitFor(() => readFileSync(starts, "utf8").length >= 6, { what: "three starts" });
    // Only ever one at a time.
    expect(processesOf("sleep\u0000600").length).toBeLessThanOrEqual(1);
  }
});

test("one that holds back what it prints is asked anew for each reading", async () => {
  using dir = toolDir({
    gpus: `[ "$3" = -lms ] && exec /bin/sleep 600; ${printing("eight-h100.csv")}`,
  });
  await using gpus = start(dir.path, { loop: { firstLineMs: 200 } });
  const first = await when(gpus, "figures", (now) => now.gpus.length === 8);
  expect(first.problem).toBeNull();
  const at = first.gpus[0]?.at ?? 0;
  await when(gpus, "newer figures", ({ gpus: [entry] }) => (entry?.at ?? 0) > at);
  // And no more once the driver fails.
  writeSmi(dir.path, { gpus: "echo 'GPU is lost'; exit 15" });
  await when(gpus, "the reason", ({ problem }) => problem === "GPU is lost");
});

test("one that falls silent: its figures age and go, the reason is there", async () => {
  using dir = toolDir({ gpus: `${printing("h200.csv")}; exec /bin/sleep 600` });
  await using gpus = start(dir.path, {
    forgetMs: 1500,
    loop: { silentMs: 100, backoffFirstMs: 60_000, backoffMaxMs: 60_000 },
  });
  const reading = await when(gpus, "a reason beside the figures", (now) => {
    return now.problem !== null && now.gpus.length === 1;
  });
  expect(reading.problem).toBe("nvidia-smi gave no answer in 0.1s");
  await when(gpus, "no figures", (now) => now.gpus.length === 0 && now.problem !== null);
});

test("one GPU of several cannot be read: the others are shown, with the reason", async () => {
  using dir = toolDir({
    gpus: `${printing("h200.csv")}
      while :; do
        echo "Unable to determine the device handle for GPU0000:0B:00.0: GPU is lost."
        /usr/bin/tail -n 1 "$(dirname "$0")/row"; /bin/sleep 0.05
      done`,
  });
  writeFileSync(
    path.join(dir.path, "row"),
    "0, GPU-a0000000, 1 MiB, 1 MiB, 1 %, 1, 1 W, 1 W, [N/A], x\n",
  );
  await using gpus = start(dir.path);
  const reading = await when(gpus, "both", (now) => now.problem !== null && now.gpus.length > 0);
  expect(reading.problem).toContain("GPU is lost");
});

test("a driver that does not know a field is asked for fewer", async () => {
  using dir = toolDir({
    gpus: `case "$1" in
      *mig.mode*) echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2;;
    esac
    echo "index, uuid, memory.total [MiB], memory.used [MiB], utilization.gpu [%], temperature.gpu, name"
    while :; do echo "0, GPU-12345678, 10 MiB, 1 MiB, 3 %, 40, Tesla K80"; /bin/sleep 0.05; done`,
  });
  await using gpus = start(dir.path);
  const { gpus: all, problem } = await when(gpus, "a GPU", seen);
  expect(problem).toBeNull();
  expect(all[0]?.gpu).toMatchObject({ name: "Tesla K80", powerWatts: null });
});

test("it vanishes while it runs: found again when it is back", async () => {
  using dir = toolDir({ gpus: `${printing("h200.csv")}; rm "$0"` });
  await using gpus = start(dir.path, { forgetMs: 100 });
  await when(gpus, "a GPU", seen);
  await when(gpus, "nothing", ({ problem }) => /there is no nvidia-smi/.test(problem ?? ""));
  rmSync(path.join(dir.path, "nvidia-smi"), { force: true });
  writeSmi(dir.path, { gpus: playing("h200.csv") });
  await when(gpus, "a GPU again", seen);
});

test("endless output without a line end keeps the memory bounded, and is ended by the watchdog", async () => {
  using dir = toolDir({
    gpus: "/usr/bin/head -c 30000000 /dev/zero | /usr/bin/tr '\\0' x; exec /bin/sleep 600",
  });
  await using gpus = start(dir.path);
  await when(gpus, "a reason", ({ problem }) => /gave no answer/.test(problem ?? ""));
});

test("one that prints without end what is no answer is ended", async () => {
  using dir = toolDir({ gpus: "exec /usr/bin/yes" });
  await using gpus = start(dir.path);
  await when(
    gpus,
    "a reason",
    ({ problem }) => problem === "nvidia-smi prints something that is not an answer",
  );
});

test("the end does not wait for a tool that hangs", async () => {
  using dir = toolDir({
    gpus: playing("h200.csv"),
    apps: "exec /bin/sleep 601",
    list: "exec /bin/sleep 601",
  });
  writeTool(dir.path, "amd-smi", "exec /bin/sleep 601");
  const gpus = start(dir.path, { toolTimeoutMs: 600_000 });
  await when(gpus, "a GPU", seen);
  await gpus[Symbol.asyncDispose]();
  await waitFor(() => processesOf("sleep\u0000601").length === 0, { what: "no tool" });
});

test("AMD's GPUs by amd-smi, else by rocm-smi", async () => {
  using dir = toolDir();
  const rocm = {
    card0: { "Unique ID": "0x9246AB", "GPU use (%)": "37", "VRAM Total Memory (B)": "1024" },
    system: { "Driver version": "6.8" },
  };
  writeTool(dir.path, "rocm-smi", `echo 'WARNING: low power'; echo '${JSON.stringify(rocm)}'`);
  await using gpus = start(dir.path, { forgetMs: 100 });
  const { gpus: first, problem } = await when(gpus, "a GPU", seen);
  expect([first[0]?.gpu.uuid, first[0]?.gpu.utilizationPercent, problem]).toEqual([
    "GPU-9246ab",
    37,
    null,
  ]);
  writeTool(dir.path, "amd-smi", "echo 'no amdgpu driver' >&2; exit 1");
  await when(gpus, "its reason", (reading) => reading.problem === "no amdgpu driver");
});
