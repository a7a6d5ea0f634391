import { expect, test } from "bun:test";
import { gpuText, hardwareTables, readHardware } from "../../../src/cli/status/hardware.ts";
import { textTable } from "../../../src/cli/base/table.ts";

const GIB = 1024 ** 3;

function gpu(index: number, more: Record<string, unknown> = {}) {
  return {
    uuid: `GPU-${index}`,
    index,
    name: "NVIDIA H100 80GB HBM3",
    utilization_percent: 60,
    memory_used_bytes: 40 * GIB,
    memory_total_bytes: 80 * GIB,
    engine_memory_bytes: null,
    power_watts: 433.78,
    power_limit_watts: 700,
    temperature_celsius: 53,
    unified: false,
    mig_parent: null,
    age_ms: 900,
    ...more,
  };
}

const shown = (worker: Record<string, unknown>) => gpuText(readHardware(worker));

test.each([
  ["one GPU by its name", [gpu(0)], "H100 80GB HBM3 60% 40/80 GiB"],
  [
    "several",
    [gpu(0), gpu(1, { utilization_percent: 0, memory_used_bytes: 0 })],
    "2 GPUs 30% 40/160 GiB",
  ],
  [
    "what is not known of all is not known of the whole",
    [gpu(0), gpu(1, { utilization_percent: null, memory_used_bytes: null })],
    "2 GPUs ?% ?/160 GiB",
  ],
  [
    "only those that the engine is on, where that is known",
    [gpu(0), gpu(1, { engine_memory_bytes: 30 * GIB }), gpu(2)],
    "H100 80GB HBM3 60% 40/80 GiB",
  ],
  [
    "MIG instances instead of their GPU",
    [
      gpu(0, { utilization_percent: null }),
      gpu(0, {
        uuid: "MIG-1",
        name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        mig_parent: "GPU-0",
        utilization_percent: null,
        memory_used_bytes: 0,
        memory_total_bytes: 10 * GIB,
      }),
    ],
    "H100 80GB HBM3 MIG 1g.10gb ?% 0.0/10 GiB",
  ],
  [
    "memory that is the machine's",
    [gpu(0, { name: "NVIDIA GB10", unified: true, memory_total_bytes: 120 * GIB })],
    "GB10 60% 40/120 GiB shared",
  ],
  ["old figures with their age", [gpu(0, { age_ms: 62_000 })], /\(1m02s old\)$/],
])("%s", (_, gpus, words) => {
  if (typeof words === "string") expect(shown({ gpus })).toBe(words);
  else expect(shown({ gpus })).toMatch(words);
});

test("GPUs that the engine was given are all its own, whatever it uses of them", () => {
  const gpus = [gpu(0), gpu(1, { engine_memory_bytes: 30 * GIB })];
  expect(shown({ gpus, engines: [{ gpus: ["GPU-0", "GPU-1"] }] })).toBe("2 GPUs 60% 80/160 GiB");
});

test("a reason where there are no figures; none where there is no GPU", () => {
  expect(shown({ gpu_problem: "nvidia-smi gave no answer in 10s" })).toBe(
    "? (nvidia-smi gave no answer in 10s)",
  );
  expect(shown({ gpus: [], gpu_problem: "there is no nvidia-smi on the PATH" })).toBe("");
  expect(shown({})).toBe("");
  expect(shown({ gpus: [gpu(0)], gpu_problem: "GPU is lost" })).toEndWith("(not all)");
});

test("the tables", () => {
  const host = {
    cpu_percent: 12.4,
    memory_used_bytes: 100 * GIB,
    memory_bytes: 1024 * GIB,
    disk_free_bytes: 512 * GIB,
    net_rx_bytes_per_s: null,
    net_tx_bytes_per_s: 2048,
    age_ms: 700,
  };
  const mig = gpu(1, { mig_parent: "GPU-1", power_watts: null, temperature_celsius: null });
  const workers = [
    { name: "a", hardware: readHardware({ host, gpus: [gpu(0), mig] }) },
    { name: "b", hardware: readHardware({ gpu_problem: "no driver\u001b[31m" }) },
  ];
  const lines = hardwareTables(workers).flatMap(([head, rows]) => textTable(head, rows, null));
  expect(lines.join("\n")).toBe(
    `\
WORKER   CPU   MEMORY      DISK FREE   NET IN   NET OUT     AGE
a        12%   0.1/1 TiB   512 GiB     ?        2.0 KiB/s   0.7s
WORKER   GPU     NAME                    UTIL   MEMORY      ENGINE   POWER       TEMP   AGE    PROBLEM
a        0       NVIDIA H100 80GB HBM3   60%    40/80 GiB   -        434/700 W   53 C   0.9s
a        1 MIG   NVIDIA H100 80GB HBM3   60%    40/80 GiB   -        ?           ?      0.9s
b        -       -                       -      -           -        -           -      -      no driver`,
  );
});

test("what is of another kind is unknown", () => {
  const odd = readHardware({
    host: 7,
    gpus: [{ index: "0", utilization_percent: "60", unified: "yes" }, null],
    gpu_problem: 3,
  });
  expect(odd.host).toBeNull();
  expect(odd.gpuProblem).toBeNull();
  expect(odd.gpus[0]).toMatchObject({
    uuid: "?",
    index: null,
    utilizationPercent: null,
    unified: false,
  });
  expect(gpuText(odd)).toBe("2 GPUs ?% ?");
});
