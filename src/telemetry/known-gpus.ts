/** Asks once which GPUs there are, by the names that a person may use, and which processes run on them. */

import { readAmdProcesses, readAmdSmi, readRocmSmi, ROCM_SMI_ARGS } from "./amd.ts";
import type { GpuProcess, GpuSample, KnownGpu } from "./gpu.ts";
import { readGpuList } from "./nvidia-mig.ts";
import { PROCESS_FIELDS, readProcesses } from "./nvidia-query.ts";
import { findTool, askTool, readTool, type ToolOptions } from "./tools.ts";

const TIMEOUT_MS = 20_000;
const PROCESSES_TIMEOUT_MS = 10_000;

/** Null where no tool answers in time. Never throws. */
export async function listGpus(options: Partial<ToolOptions> = {}): Promise<KnownGpu[] | null> {
  const asking = { timeoutMs: TIMEOUT_MS, ...options };
  if (findTool("nvidia-smi", asking.path) !== null) {
    const answer = await askTool(["nvidia-smi", "-L"], asking);
    const gpus = answer.outcome === "answered" ? readGpuList(answer.lines) : [];
    return gpus.length > 0 ? gpus.map(({ device: _, ...gpu }) => gpu) : null;
  }
  if (findTool("amd-smi", asking.path) !== null) {
    const answer = await readTool(["amd-smi", "list", "--json"], asking);
    if (answer.outcome !== "answered") return null;
    return known(readAmdSmi(answer.text, { list: answer.text, static: "" }));
  }
  const answer = await readTool(["rocm-smi", ...ROCM_SMI_ARGS], asking);
  return answer.outcome === "answered" ? known(readRocmSmi(answer.text)) : null;
}

function known(gpus: GpuSample[] | null): KnownGpu[] | null {
  if (gpus === null || gpus.length === 0) return null;
  return gpus.map(({ uuid, index, name }) => {
    return { uuid, index, name, migParent: null, vendor: "amd" };
  });
}

/**
 * The processes on all GPUs of this machine, by the pids of the machine's own namespace; null where
 * no tool knows. Never throws. In a container without the host's pids the list may be empty, or its
 * pids mean nothing.
 */
export async function computeProcesses(
  options: Partial<ToolOptions> = {},
): Promise<GpuProcess[] | null> {
  const asking = { timeoutMs: PROCESSES_TIMEOUT_MS, ...options };
  const argv = ["nvidia-smi", `--query-compute-apps=${PROCESS_FIELDS.join(",")}`, "--format=csv"];
  const answer = await askTool(argv as ["nvidia-smi", ...string[]], asking);
  if (answer.outcome === "answered") return readProcesses(answer.lines);
  if (answer.outcome === "failed" || findTool("amd-smi", options.path) === null) return null;
  const [list, processes] = [
    await readTool(["amd-smi", "list", "--json"], asking),
    await readTool(["amd-smi", "process", "--json"], asking),
  ];
  if (list.outcome !== "answered" || processes.outcome !== "answered") return null;
  return readAmdProcesses(processes.text, list.text);
}
