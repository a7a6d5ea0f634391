import { expect, test } from "bun:test";
import type { GpuTelemetry } from "../../../src/protocol/messages.ts";
import { fakeWorker, startTestHead } from "../../helpers/cluster.ts";
import { waitFor } from "../../helpers/wait.ts";

const gpu = (index: number, more: Partial<GpuTelemetry> = {}): GpuTelemetry => ({
  uuid: `GPU-${index}`,
  index,
  name: 'A "GPU"',
  unified: false,
  migParent: "",
  ageMs: 0,
  ...more,
});

test("what workers measure is in status and metrics; what they do not know is in neither", async () => {
  await using head = await startTestHead();
  await using worker = fakeWorker(head, { hello: { name: "w" }, models: ["m"] });
  const scrape = async () => (await fetch(`${head.url}/metrics`)).text();
  await worker.next("welcome");
  worker.send({
    message: "heartbeat",
    heartbeat: {
      sequence: 1000,
      host: { cpuPercent: 50, memoryBytes: 1024, ageMs: 0 },
      gpus: [
        gpu(0, { utilizationPercent: 0, memoryUsedBytes: 0, engineMemoryBytes: 512 }),
        gpu(1, { utilizationPercent: 75, ageMs: 60_000 }),
      ],
      gpuProblem: "GPU 2 is lost",
    },
  });
  const text = await waitFor(
    async () => {
      const now = await scrape();
      return now.includes("llmnode_gpu_memory_used_bytes{") ? now : null;
    },
    { what: "the worker's figures" },
  );
  const series = text.split("\n").filter((line) => /^llmnode_(gpu|host)_/.test(line));
  const labels = 'worker="w",gpu="0",uuid="GPU-0",name="A \\"GPU\\""';
  expect(series.sort()).toEqual([
    `llmnode_gpu_engine_memory_bytes{${labels}} 512`,
    `llmnode_gpu_memory_used_bytes{${labels}} 0`,
    // GPU 1 was measured a minute ago: that is not how it is now.
    `llmnode_gpu_utilization_ratio{${labels}} 0`,
    `llmnode_host_cpu_utilization_ratio{worker="w"} 0.5`,
    `llmnode_host_memory_bytes{worker="w"} 1024`,
  ]);
  const response = await fetch(`${head.url}/api/v1/status`);
  const { workers } = (await response.json()) as { workers: Record<string, unknown>[] };
  expect(workers[0]).toMatchObject({
    host: { cpu_pct: 50, mem_used_bytes: null, mem_total_bytes: 1024 },
    gpus: [
      { uuid: "GPU-0", util_pct: 0, mem_total_bytes: null },
      { uuid: "GPU-1", util_pct: 75 },
    ],
    gpu_problem: "GPU 2 is lost",
  });
});
