import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import type { EngineStatus } from "../../src/engine/status.ts";
import { MAX_MESSAGE_BYTES } from "../../src/protocol/messages.ts";
import { loadService } from "../../src/protocol/schema.ts";
import type { GpuProcess, GpuSample } from "../../src/telemetry/gpu.ts";
import type { Telemetry } from "../../src/telemetry/sampler.ts";
import { createHardwareReport, gpuPercentSince, type Vitals } from "../../src/worker/telemetry.ts";
import { waitFor } from "../helpers/wait.ts";
import { toolDir, writeTool } from "../telemetry/fake-tools.ts";

type Reading = ReturnType<Telemetry["read"]>;

function sample(uuid: string, more: Partial<GpuSample> = {}): GpuSample {
  return {
    uuid,
    index: 0,
    name: "GPU",
    utilizationPercent: 5,
    memoryUsedBytes: null,
    memoryTotalBytes: null,
    powerWatts: null,
    powerLimitWatts: null,
    temperatureCelsius: null,
    unified: false,
    migParent: null,
    ...more,
  };
}

/** A report over figures that the test sets. */
function setUp(
  first: Partial<Reading>,
  engine: {
    gpus?: string[];
    pid?: number | null;
    engineId?: string;
    container?: string;
    path?: string;
  } = {},
) {
  let reading: Reading = { host: null, gpus: [], problem: null, processes: null, ...first };
  const status = () =>
    ({
      gpus: engine.gpus ?? [],
      pid: engine.pid ?? null,
      container: engine.container ?? null,
    }) as unknown as EngineStatus;
  const report = createHardwareReport({
    telemetry: { read: () => reading },
    status,
    engineId: engine.engineId ?? null,
    path: engine.path,
  });
  return { report, set: (more: Partial<Reading>) => (reading = { ...reading, ...more }) };
}

const at = (gpu: GpuSample, ms = performance.now()) => ({ gpu, at: ms });
const uuids = ({ gpus }: Vitals) => gpus?.map(({ uuid }) => uuid);

test("what was measured is said once, and again to the next session", () => {
  const { report, set } = setUp({ gpus: [at(sample("A"), performance.now() - 500)] });
  const [first] = report.next().gpus ?? [];
  expect(first).toMatchObject({ uuid: "A", utilizationPercent: 5, migParent: "" });
  expect(first?.ageMs).toBeGreaterThanOrEqual(500);
  // Absent, not 0.
  expect(first).not.toHaveProperty("powerWatts");
  expect(report.next()).toEqual({});
  set({ gpus: [at(sample("A"))] });
  expect(uuids(report.next())).toEqual(["A"]);
  report.forget();
  expect(uuids(report.next())).toEqual(["A"]);
});

test("the machine's load is said when it is new", () => {
  const host = {
    cpuPercent: 0,
    memoryUsedBytes: null,
    memoryBytes: 9,
    diskFreeBytes: null,
    netRxBytesPerS: null,
    netTxBytesPerS: null,
    at: performance.now(),
  };
  const { report, set } = setUp({ host });
  expect(report.next().host).toEqual({
    cpuPercent: 0,
    memoryBytes: 9,
    ageMs: expect.any(Number),
  });
  expect(report.next()).toEqual({});
  set({ host: { ...host, at: performance.now() } });
  expect(report.next().host).toEqual({
    cpuPercent: 0,
    memoryBytes: 9,
    ageMs: expect.any(Number),
  });
});

test("a reason is said, and that it is gone", () => {
  const { report, set } = setUp({ problem: "no driver" });
  expect(report.next()).toEqual({ gpus: [], gpuProblem: "no driver" });
  expect(report.next()).toEqual({});
  set({ problem: null, gpus: [at(sample("A"))] });
  expect(report.next()).toMatchObject({ gpuProblem: "" });
});

test("only the GPUs that the engine may use, with their MIG instances", () => {
  const gpus = [
    at(sample("GPU-1")),
    at(sample("MIG-1", { migParent: "GPU-1" })),
    at(sample("GPU-2")),
  ];
  expect(uuids(setUp({ gpus }, { gpus: ["GPU-1"] }).report.next())).toEqual(["GPU-1", "MIG-1"]);
  expect(uuids(setUp({ gpus }, { gpus: ["MIG-1"] }).report.next())).toEqual(["MIG-1"]);
  expect(uuids(setUp({ gpus }).report.next())).toHaveLength(3);
});

test("the memory of the engine's own processes, by GPU", async () => {
  const processes: GpuProcess[] = [
    // This process, two of its parents' tree, and somebody else's.
    { pid: process.pid, gpu: "A", memoryBytes: 100 },
    { pid: process.pid, gpu: "A", memoryBytes: 20 },
    { pid: process.pid, gpu: "B", memoryBytes: null },
    { pid: 1, gpu: "C", memoryBytes: 7 },
  ];
  const gpus = ["A", "B", "C"].map((uuid) => at(sample(uuid)));
  const { report } = setUp({ gpus, processes }, { pid: process.ppid });
  report.next();
  const memory = await waitFor(
    () => {
      const list = report.next().gpus;
      return list?.some((gpu) => gpu.engineMemoryBytes !== undefined) ? list : null;
    },
    { what: "the engine's memory" },
  );
  expect(memory.map((gpu) => gpu.engineMemoryBytes)).toEqual([120, undefined, undefined]);
});

test("an engine in a container is asked for by its label, once a run", async () => {
  const child = Bun.spawn(["/bin/sleep", "60"]);
  try {
    using dir = toolDir();
    writeTool(dir.path, "docker", 'echo "$5" >> "$0.asked"; exit 1');
    const processes = [{ pid: child.pid, gpu: "A", memoryBytes: 1 }];
    const { report } = setUp(
      { gpus: [at(sample("A"))], processes },
      { engineId: "e-1", container: "my-engine", path: dir.path },
    );
    expect(report.next().gpus?.[0]).not.toHaveProperty("engineMemoryBytes");
    const asked = await waitFor(
      () => {
        const file = `${dir.path}/docker.asked`;
        const text = existsSync(file) ? readFileSync(file, "utf8") : "";
        // It is there before what is written to it.
        return text.endsWith("\n") && text;
      },
      { what: "the question" },
    );
    expect(asked).toBe("label=llmnode.engine=e-1\n");
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
});

test("however many GPUs, the heartbeat stays below the limit", () => {
  const join = loadService()["Join"];
  if (!join) throw new Error("no Join");
  const figures = {
    utilizationPercent: 99.5,
    memoryUsedBytes: 2 ** 36,
    memoryTotalBytes: 2 ** 37,
    powerWatts: 1.5,
    powerLimitWatts: 2.5,
    temperatureCelsius: 3.5,
    name: "é".repeat(100),
    migParent: `GPU-${"x".repeat(80)}`,
  };
  const gpus = Array.from({ length: 200 }, (_, i) =>
    at(sample(`MIG-${i}-${"y".repeat(80)}`, { index: i, ...figures })),
  );
  const news = setUp({ gpus, problem: "p".repeat(200) }).report.next();
  const bytes = join.requestSerialize({
    message: "heartbeat",
    heartbeat: { sequence: 2 ** 40, ...news },
  });
  expect(bytes.length).toBeLessThan(MAX_MESSAGE_BYTES - 1024);
  expect(news.gpus?.length).toBeGreaterThan(20);
  const usual = Array.from({ length: 64 }, (_, i) =>
    at(
      sample(`MIG-0000000${i}-0000-0000-0000-000000000000`, { name: "NVIDIA H100 80GB HBM3 MIG" }),
    ),
  );
  expect(setUp({ gpus: usual }).report.next().gpus).toHaveLength(64);
});

test("how busy the engine's GPUs were since then: the busiest reading, null where none tells", () => {
  const telling = (gpus: Reading["gpus"], own: string[] = []) =>
    gpuPercentSince(
      {
        telemetry: { read: () => ({ host: null, gpus, problem: null, processes: null }) },
        status: () => ({ gpus: own }) as unknown as EngineStatus,
      },
      100,
    );
  const busy = at(sample("GPU-0", { utilizationPercent: 7 }), 100);
  const idle = at(sample("GPU-1", { utilizationPercent: 0 }), 150);
  const silent = at(sample("MIG-2", { utilizationPercent: null }), 150);
  const old = at(sample("GPU-3", { utilizationPercent: 90 }), 99);
  expect(telling([busy, idle, silent, old])).toBe(7);
  expect(telling([busy, idle, silent, old], ["GPU-1"])).toBe(0);
  expect(telling([silent, old])).toBeNull();
  expect(telling([])).toBeNull();
});
