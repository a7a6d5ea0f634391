import { expect, test } from "bun:test";
import { NO_HARDWARE, withTelemetry } from "../../../src/cluster/state/telemetry.ts";
import type { GpuTelemetry } from "../../../src/protocol/messages.ts";

const gpu = (uuid: string, more: Partial<GpuTelemetry> = {}): GpuTelemetry => ({
  uuid,
  index: 0,
  name: "GPU",
  unified: false,
  migParent: "",
  ageMs: 100,
  ...more,
});

test("figures keep the time at which they were measured; unknown is null", () => {
  const known = withTelemetry(
    NO_HARDWARE,
    {
      sequence: 1,
      host: { cpuPercent: 0, ageMs: 200 },
      gpus: [gpu("GPU-1", { utilizationPercent: 0 })],
    },
    10_000,
  );
  expect(known.host).toEqual({
    cpuPercent: 0,
    memoryUsedBytes: null,
    memoryBytes: null,
    diskFreeBytes: null,
    netRxBytesPerS: null,
    netTxBytesPerS: null,
    at: 9800,
  });
  expect(known.gpus).toEqual([
    {
      uuid: "GPU-1",
      index: 0,
      name: "GPU",
      utilizationPercent: 0,
      memoryUsedBytes: null,
      memoryTotalBytes: null,
      engineMemoryBytes: null,
      powerWatts: null,
      powerLimitWatts: null,
      temperatureCelsius: null,
      unified: false,
      migParent: null,
      at: 9900,
    },
  ]);
  expect(known.gpuProblem).toBeNull();
});

test("a heartbeat that says nothing of them changes nothing", () => {
  const known = withTelemetry(NO_HARDWARE, { sequence: 1, gpus: [gpu("GPU-1")] }, 0);
  expect(withTelemetry(known, { sequence: 2 }, 5)).toBe(known);
  expect(withTelemetry(known, { sequence: 2, host: null, gpus: [], gpuProblem: "" }, 5)).toBe(
    known,
  );
  const later = withTelemetry(known, { sequence: 3, host: { ageMs: 0 } }, 9);
  expect(later.gpus).toBe(known.gpus);
});

test("a list replaces the one before, and so does a reason", () => {
  const two = withTelemetry(NO_HARDWARE, { sequence: 1, gpus: [gpu("A"), gpu("B")] }, 0);
  const one = withTelemetry(two, { sequence: 2, gpus: [gpu("B")], gpuProblem: "A is lost" }, 1);
  expect([one.gpus.map(({ uuid }) => uuid), one.gpuProblem]).toEqual([["B"], "A is lost"]);
  const none = withTelemetry(one, { sequence: 3, gpus: [], gpuProblem: "no driver" }, 2);
  expect([none.gpus.length, none.gpuProblem]).toEqual([0, "no driver"]);
  expect(withTelemetry(none, { sequence: 4, gpus: [gpu("A")] }, 3).gpuProblem).toBeNull();
});

test("what a worker sends is bounded, printable, and no nonsense", () => {
  const many = Array.from({ length: 100 }, (_, i) => gpu(`GPU-${i}`));
  expect(withTelemetry(NO_HARDWARE, { sequence: 1, gpus: many }, 0).gpus).toHaveLength(64);
  const odd = gpu("GPU-\u001b[31mx\n", {
    name: "n".repeat(1000),
    powerWatts: Number.NaN,
    temperatureCelsius: Number.POSITIVE_INFINITY,
    memoryUsedBytes: -1,
    ageMs: Number.NaN,
  });
  const [read] = withTelemetry(
    NO_HARDWARE,
    { sequence: 1, gpus: [odd], gpuProblem: "a\u0000b" },
    7,
  ).gpus;
  expect(read).toMatchObject({
    uuid: "GPU-x",
    powerWatts: null,
    temperatureCelsius: null,
    memoryUsedBytes: null,
    at: 7,
  });
  expect(read?.name.length).toBe(100);
});
