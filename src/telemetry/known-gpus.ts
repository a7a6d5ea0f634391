/** Lists the GPUs by which a person may name them, once, before an engine is started on some. */

import { readAmdSmi, readRocmSmi, ROCM_SMI_ARGS } from "./amd.ts";
import type { GpuSample, KnownGpu } from "./gpu.ts";
import { readGpuList } from "./nvidia-mig.ts";
import { findTool, askTool, readTool, type ToolOptions } from "./tools.ts";

const TIMEOUT_MS = 20_000;

/** Null where no tool tells, in time. Never throws. */
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
