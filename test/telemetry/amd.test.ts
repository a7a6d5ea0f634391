import { expect, test } from "bun:test";
import fc from "fast-check";
import { readAmdProcesses, readAmdSmi, readRocmSmi } from "../../src/telemetry/amd.ts";

const MIB = 1024 ** 2;
const list = JSON.stringify([{ gpu: 0, bdf: "0000:05:00.0", uuid: "00ff74a1-0000-1000-80dd" }]);
const row = {
  gpu: 0,
  usage: { gfx_activity: { value: 40, unit: "%" } },
  power: { socket_power: { value: 239, unit: "W" } },
  temperature: { edge: "N/A", hotspot: { value: 36, unit: "C" } },
  mem_usage: {
    total_vram: { value: 294_896, unit: "MB" },
    used_vram: { value: 283, unit: "MB" },
  },
};
const more = {
  gpu_data: [
    {
      gpu: 0,
      asic: { market_name: "AMD Instinct MI355X" },
      limit: { ppt0: { socket_power_limit: { value: 1400, unit: "W" } } },
    },
  ],
};

test("amd-smi, as a bare list and as gpu_data", () => {
  for (const shape of [[row], { gpu_data: [row] }]) {
    const gpus = readAmdSmi(JSON.stringify(shape), { list, static: JSON.stringify(more) });
    expect(gpus).toEqual([
      {
        uuid: "00ff74a1-0000-1000-80dd",
        index: 0,
        name: "AMD Instinct MI355X",
        utilizationPercent: 40,
        memoryUsedBytes: 283 * MIB,
        memoryTotalBytes: 294_896 * MIB,
        powerWatts: 239,
        powerLimitWatts: 1400,
        temperatureCelsius: 36,
        unified: false,
        migParent: null,
      },
    ]);
  }
});

test("what amd-smi does not tell is unknown", () => {
  const [gpu] =
    readAmdSmi(JSON.stringify([{ gpu: 2, usage: "N/A", mem_usage: "N/A" }]), {
      list: "",
      static: "",
    }) ?? [];
  expect(gpu).toMatchObject({
    uuid: "amd-2",
    name: "AMD GPU",
    utilizationPercent: null,
    memoryTotalBytes: null,
  });
});

test("rocm-smi", () => {
  const text = JSON.stringify({
    card1: {
      "Unique ID": "N/A",
      "Card Series": "Raphael",
      "GPU use (%)": "N/A",
      "VRAM Total Memory (B)": "67108864",
      "VRAM Total Used Memory (B)": "26079232",
      "Current Socket Graphics Package Power (W)": "9.215",
      "Temperature (Sensor edge) (C)": "47.0",
    },
    system: { x: "y" },
  });
  expect(readRocmSmi(text)).toEqual([
    {
      uuid: "amd-1",
      index: 1,
      name: "Raphael",
      utilizationPercent: null,
      memoryUsedBytes: 26_079_232,
      memoryTotalBytes: 67_108_864,
      powerWatts: 9.215,
      powerLimitWatts: null,
      temperatureCelsius: 47,
      unified: false,
      migParent: null,
    },
  ]);
});

test("processes", () => {
  const text = JSON.stringify([
    {
      gpu: 0,
      process_list: [
        {
          process_info: { pid: 42, memory_usage: { vram_mem: { value: 5, unit: "MB" } } },
        },
        { process_info: "No running processes detected" },
      ],
    },
  ]);
  expect(readAmdProcesses(text, list)).toEqual([
    { pid: 42, gpu: "00ff74a1-0000-1000-80dd", memoryBytes: 5 * MIB },
  ]);
  expect(readAmdProcesses("nothing", list)).toBeNull();
});

test("property: any JSON gives sound figures or none", () => {
  fc.assert(
    fc.property(fc.json(), fc.json(), (text, other) => {
      const gpus = [
        ...(readAmdSmi(text, { list: other, static: other }) ?? []),
        ...(readRocmSmi(text) ?? []),
      ];
      for (const gpu of gpus) {
        for (const value of Object.values(gpu)) {
          if (typeof value === "number") expect(Number.isFinite(value) && value >= 0).toBe(true);
        }
      }
      readAmdProcesses(text, other);
    }),
  );
});

test("JSON is found behind warnings and any number of empty lines", () => {
  const text = `WARNING: x\n${"\n".repeat(400_000)}  ${JSON.stringify([row])}`;
  expect(readAmdSmi(text, { list, static: "" })?.length).toBe(1);
});

test("an id of an unlikely length is none", () => {
  const card = (id: string) => JSON.stringify({ card0: { "Unique ID": id, "GPU use (%)": "1" } });
  const uuids = ["0xABC", `0x${"a".repeat(32)}`, `0x${"a".repeat(33)}`, "abc"].map(
    (id) => readRocmSmi(card(id))?.[0]?.uuid,
  );
  expect(uuids).toEqual(["GPU-abc", `GPU-${"a".repeat(32)}`, "amd-0", "amd-0"]);
});
