import { expect, test } from "bun:test";
import { gpuText, hardwareTables } from "../../../src/cli/status/hardware.ts";
import { table } from "../../../src/cli/base/table.ts";
import type { WorkerDetail } from "../../../src/protocol/watch-rows.ts";
import { engine, gpu } from "./rows.ts";

const GIB = 1024 ** 3;

const shown = (more: Partial<WorkerDetail>) =>
  gpuText({ gpus: [], gpu_problem: null, engines: [], ...more });

test.each([
  ["one GPU by its name", [gpu(0)], "H100 80GB HBM3 60% 40/80 GiB"],
  ["several", [gpu(0), gpu(1, { util_pct: 0, mem_used_bytes: 0 })], "2 GPUs 30% 40/160 GiB"],
  [
    "what is not known of all is not known of the whole",
    [gpu(0), gpu(1, { util_pct: null, mem_used_bytes: null })],
    "2 GPUs ?% ?/160 GiB",
  ],
  [
    "only those that the engine is on, where that is known",
    [gpu(0), gpu(1, { engine_mem_bytes: 30 * GIB }), gpu(2)],
    "H100 80GB HBM3 60% 40/80 GiB",
  ],
  [
    "MIG instances instead of their GPU",
    [
      gpu(0, { util_pct: null }),
      gpu(0, {
        uuid: "MIG-1",
        name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        mig_parent: "GPU-0",
        util_pct: null,
        mem_used_bytes: 0,
        mem_total_bytes: 10 * GIB,
      }),
    ],
    "H100 80GB HBM3 MIG 1g.10gb ?% 0.0/10 GiB",
  ],
  [
    "memory that is the machine's",
    [gpu(0, { name: "NVIDIA GB10", unified: true, mem_total_bytes: 120 * GIB })],
    "GB10 60% 40/120 GiB shared",
  ],
  ["old figures with their age", [gpu(0, { age_ms: 62_000 })], /\(1m02s old\)$/],
])("%s", (_, gpus, words) => {
  if (typeof words === "string") expect(shown({ gpus })).toBe(words);
  else expect(shown({ gpus })).toMatch(words);
});

test("GPUs that the engine was given are all its own, whatever it uses of them", () => {
  const gpus = [gpu(0), gpu(1, { engine_mem_bytes: 30 * GIB })];
  expect(shown({ gpus, engines: [engine("a/1", { gpu_uuids: ["GPU-0", "GPU-1"] })] })).toBe(
    "2 GPUs 60% 80/160 GiB",
  );
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
    cpu_pct: 12.4,
    mem_used_bytes: 100 * GIB,
    mem_total_bytes: 1024 * GIB,
    disk_free_bytes: 512 * GIB,
    net_rx_bytes_per_s: null,
    net_tx_bytes_per_s: 2048,
    age_ms: 700,
  };
  const mig = gpu(1, { mig_parent: "GPU-1", power_w: null, temp_c: null });
  const workers = [
    { name: "a", host, gpus: [gpu(0), mig], gpu_problem: null },
    { name: "b", host: null, gpus: [], gpu_problem: "no driver\u001b[31m" },
  ];
  const lines = hardwareTables(workers).flatMap(([head, rows]) =>
    table(head, rows, { columns: null }),
  );
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
