/** Asks which processes are on which GPUs. */

import { readAmdProcesses } from "./amd.ts";
import type { GpuProcess } from "./gpu.ts";
import { PROCESS_FIELDS, readProcesses } from "./nvidia-query.ts";
import { askTool, findTool, readTool, type ToolOptions } from "./tools.ts";

const TIMEOUT_MS = 10_000;

/**
 * The processes on all GPUs of this machine, by the pids of the machine's own namespace; null where
 * no tool tells. Never throws. In a container without the host's pids the list may be empty, or its
 * pids mean nothing.
 */
export async function computeProcesses(
  options: Partial<ToolOptions> = {},
): Promise<GpuProcess[] | null> {
  const asking = { timeoutMs: TIMEOUT_MS, ...options };
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
