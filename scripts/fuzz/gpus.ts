/** Fuzzes what reads GPU tools: captures of their answers, damaged. */

import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { readAmdProcesses, readAmdSmi, readRocmSmi } from "../../src/telemetry/amd.ts";
import { readGpuList, readMig } from "../../src/telemetry/nvidia-mig.ts";
import {
  GPU_FIELDS,
  readGpuRow,
  readHeader,
  readProcesses,
} from "../../src/telemetry/nvidia-query.ts";
import { must, pure } from "./fuzzer.ts";
import { damaged, jsonText, type Random } from "./random.ts";

const FOLDER = resolve(import.meta.dir, "../../test/fixtures/nvidia-smi");
const CAPTURES = readdirSync(FOLDER).filter((name) => !name.endsWith(".md"));
const AMD = JSON.stringify({
  gpu_data: [
    {
      gpu: 0,
      uuid: "00ff74a1-0000-1000-80dd",
      usage: { gfx_activity: { value: 40, unit: "%" } },
      power: { socket_power: { value: 239, unit: "W" } },
      temperature: { edge: "N/A", hotspot: { value: 36, unit: "C" } },
      mem_usage: {
        total_vram: { value: 294_896, unit: "MB" },
        used_vram: { value: 283, unit: "MB" },
      },
      asic: { market_name: "AMD Instinct MI355X" },
      process_list: [{ process_info: { pid: 12, mem_usage: { value: 5, unit: "B" } } }],
    },
  ],
});
const ROCM = JSON.stringify({
  card0: {
    "Unique ID": "0xabc",
    "Card Series": "Radeon",
    "GPU use (%)": "40",
    "VRAM Total Memory (B)": "17163091968",
    "Temperature (Sensor edge) (C)": "40.0",
  },
});
const WORDS = [
  ...[
    "N/A",
    "[N/A]",
    "[Not Supported]",
    "MiB",
    "GiB",
    "%",
    "W",
    ",",
    "GPU-",
    "MIG-",
    "1e308",
    "-5",
  ],
  ...["<gpu>", "</gpu>", "<mig_device>", "</mig_device>", "<pid>", "<used>", "(UUID: ", '"value":'],
];

export const gpus = pure(
  "gpus",
  "a GPU tool's answer gives sound figures, or unknown ones",
  (random) => {
    const name = random.pick(CAPTURES);
    const text = damaged(random, capture(name), WORDS);
    const lines = text.split("\n");
    const fields = random.pick(GPU_FIELDS);
    const columns = lines.map((line) => readHeader(line, fields)).find((found) => found !== null);
    for (const line of columns ? lines : []) {
      const row = readGpuRow(line, columns ?? []);
      if (row) checkGpu(row.gpu, text);
    }
    for (const { pid, memoryBytes } of readProcesses(lines) ?? []) {
      must(Number.isSafeInteger(pid) && pid > 0, "a pid", text);
      checkFigure(memoryBytes, text);
    }
    const list = readGpuList(capture("h100-mig-list.txt").split("\n"));
    readGpuList(lines);
    for (const gpu of readMig(damaged(random, capture("h100-mig.xml"), WORDS), list).instances) {
      checkGpu(gpu, name);
    }
    const [amd, rocm] = [odd(random, AMD), odd(random, ROCM)];
    for (const gpu of readAmdSmi(amd, { list: odd(random, AMD), static: odd(random, AMD) }) ?? []) {
      checkGpu(gpu, amd);
    }
    for (const gpu of readRocmSmi(rocm) ?? []) checkGpu(gpu, rocm);
    for (const { pid } of readAmdProcesses(amd, AMD) ?? []) must(pid > 0, "a pid", amd);
  },
);

const read = new Map<string, string>();

function capture(name: string): string {
  const text = read.get(name) ?? readFileSync(join(FOLDER, name), "utf8");
  read.set(name, text);
  return text;
}

function odd(random: Random, text: string): string {
  return random.chance(0.2) ? jsonText(random) : damaged(random, text, WORDS);
}

function checkGpu(gpu: object, input: string): void {
  for (const [name, value] of Object.entries(gpu)) {
    if (typeof value === "number") checkFigure(value, input);
    // Straight to a terminal and to labels.
    if (name === "name" || name === "uuid") {
      must(typeof value === "string" && !/[\u0000-\u001f\u007f-\u009f]/.test(value), name, input);
      must(typeof value === "string" && value.length <= 100, `a long ${name}`, input);
    }
  }
}

function checkFigure(value: number | null, input: string): void {
  must(value === null || Number.isFinite(value), "a figure that is none", input);
}
