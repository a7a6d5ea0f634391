import { expect, test } from "bun:test";
import fc from "fast-check";
import { bytesIn, numberIn, percentIn } from "../../src/telemetry/gpu.ts";
import {
  type GpuRow,
  GPU_FIELDS,
  readGpuRow,
  readHeader,
  readProcesses,
} from "../../src/telemetry/nvidia-query.ts";
import { fixture } from "./fake-tools.ts";

const FIELDS = GPU_FIELDS[0] ?? [];
const MIB = 1024 ** 2;

function rowsOf(text: string): GpuRow[] {
  const [head = "", ...rows] = text.trim().split("\n");
  const columns = readHeader(head, FIELDS);
  if (!columns) throw new Error("no header");
  return rows.flatMap((row) => readGpuRow(row, columns) ?? []);
}

test("a GPU under load, with its units", () => {
  expect(rowsOf(fixture("h200.csv"))).toEqual([
    {
      mig: false,
      gpu: {
        uuid: "GPU-a0000000-0000-0000-0000-000000000000",
        index: 0,
        name: "NVIDIA H200",
        utilizationPercent: 100,
        memoryUsedBytes: 32_362 * MIB,
        memoryTotalBytes: 143_771 * MIB,
        powerWatts: 627.4,
        powerLimitWatts: 700,
        temperatureCelsius: 52,
        unified: false,
        migParent: null,
      },
    },
  ]);
});

test("0 is a figure, not unknown", () => {
  const [row] = rowsOf(fixture("l40s.csv"));
  expect(row?.gpu).toMatchObject({ utilizationPercent: 0, memoryUsedBytes: 0 });
});

test("a MIG GPU has memory, but no utilisation", () => {
  const [row] = rowsOf(fixture("h100-mig.csv"));
  expect(row?.mig).toBe(true);
  expect(row?.gpu).toMatchObject({ utilizationPercent: null, memoryTotalBytes: 81_559 * MIB });
});

test("a GPU without memory of its own is unified, its memory not 0", () => {
  const [row] = rowsOf(fixture("gb10.csv"));
  expect(row?.gpu).toMatchObject({
    unified: true,
    memoryTotalBytes: null,
    memoryUsedBytes: null,
    utilizationPercent: 12,
    powerLimitWatts: null,
  });
});

test("whatever words stand for a figure, it is unknown, and the GPU is there", () => {
  const [row] = rowsOf(fixture("closed.csv"));
  expect(row?.gpu).toMatchObject({
    name: "NVIDIA A100-SXM4-40GB",
    unified: false,
    memoryTotalBytes: null,
    memoryUsedBytes: null,
    utilizationPercent: null,
    temperatureCelsius: null,
    powerWatts: null,
    powerLimitWatts: null,
  });
});

test("the header decides what is where; a unit may be another; unknown columns are passed over", () => {
  const head =
    "name_of_host, uuid, memory.used [GiB], utilization.gpu [%], index, memory.total [GiB], temperature.gpu, power.draw [W], power.limit [W], mig.mode.current, name";
  const [row] = rowsOf(
    `${head}\nx, GPU-12345678, 2, 5, 3, 80 GiB, 41, 1.5, 2, [N/A], Odd, Inc. Model\n`,
  );
  expect(row?.gpu).toMatchObject({
    index: 3,
    memoryUsedBytes: 2 * 1024 ** 3,
    memoryTotalBytes: 80 * 1024 ** 3,
    utilizationPercent: 5,
    // Commas in a name are part of it.
    name: "Odd, Inc. Model",
  });
});

test("a line that is no row is none", () => {
  const columns = readHeader(fixture("h200.csv").split("\n")[0] ?? "", FIELDS) ?? [];
  for (const line of [
    "Unable to determine the device handle for GPU0000:0B:00.0: GPU is lost.",
    "0, GPU-a0000000",
    "0, no uuid, 1 MiB, 1 MiB, 1 %, 1, 1 W, 1 W, [N/A], x",
    "-1, GPU-a0000000, 1 MiB, 1 MiB, 1 %, 1, 1 W, 1 W, [N/A], x",
    "",
  ]) {
    expect(readGpuRow(line, columns)).toBeNull();
  }
  expect(readHeader("NVIDIA-SMI has failed because it couldn't communicate", FIELDS)).toBeNull();
});

test("processes, some with no memory told", () => {
  const gpu = "GPU-a0000000-0000-0000-0000-000000000000";
  expect(readProcesses(fixture("apps.csv").split("\n"))).toEqual([
    { pid: 10_291, gpu, memoryBytes: 2566 * MIB },
    { pid: 10_309, gpu, memoryBytes: 28_234 * MIB },
    { pid: 10_400, gpu, memoryBytes: null },
  ]);
  expect(readProcesses(["gpu_uuid, pid, used_gpu_memory [MiB]"])).toEqual([]);
  expect(readProcesses(["No devices were found"])).toBeNull();
});

test("numbers: finite and not negative, or null", () => {
  for (const text of ["[N/A]", "N/A", "", "nan", "inf", "-1", "0x10", "1e3", "1,5", "12 apples"]) {
    expect([text, numberIn(text)]).toEqual([text, null]);
  }
  expect([numberIn("0"), numberIn(" 84.24 W "), numberIn("7 %")]).toEqual([0, 84.24, 7]);
  expect([percentIn("100 %"), percentIn("101 %")]).toEqual([100, null]);
  expect([bytesIn("2", "MiB"), bytesIn("2 GiB", "MiB"), bytesIn("2", "%")]).toEqual([
    2 * MIB,
    2 * 1024 ** 3,
    null,
  ]);
  expect(numberIn("9".repeat(400))).toBeNull();
});

test("property: any text gives a sound row or none", () => {
  const columns = readHeader(fixture("h200.csv").split("\n")[0] ?? "", FIELDS) ?? [];
  const cell = fc.oneof(
    fc.string({ maxLength: 20 }),
    fc.constantFrom("[N/A]", "[Unknown Error]", "12 %", "1 MiB", "GPU-12345678", "7"),
  );
  fc.assert(
    fc.property(fc.array(cell, { maxLength: 14 }), (cells) => {
      const row = readGpuRow(cells.join(", "), columns);
      if (row === null) return;
      for (const value of Object.values(row.gpu)) {
        if (typeof value === "number") expect(Number.isFinite(value) && value >= 0).toBe(true);
      }
      expect(row.gpu.name.length).toBeLessThanOrEqual(100);
    }),
  );
});

test("property: figures that are written come back as they were", () => {
  const figure = fc.option(fc.integer({ min: 0, max: 100 }), { nil: null });
  fc.assert(
    fc.property(figure, figure, figure, (used, percent, heat) => {
      const cells = [
        "4",
        "GPU-12345678",
        "1000 MiB",
        used === null ? "[N/A]" : `${used} MiB`,
        percent === null ? "[Unknown Error]" : `${percent} %`,
        heat === null ? "N/A" : `${heat}`,
        "1 W",
        "2 W",
        "Disabled",
        "a name",
      ];
      const [row] = rowsOf(`${FIELDS.join(", ")}\n${cells.join(", ")}`);
      expect(row?.gpu).toMatchObject({
        memoryUsedBytes: used === null ? null : used * MIB,
        utilizationPercent: percent,
        temperatureCelsius: heat,
      });
    }),
  );
});
