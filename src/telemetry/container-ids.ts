/** Finds the containers of an engine by their labels, to know whose a process on a GPU is. */

import { askTool, type ToolOptions } from "./tools.ts";

const TOOLS = ["docker", "podman", "nerdctl"] as const;
const TIMEOUT_MS = 5_000;

/** Whole ids of running containers with one of `labels` (`name=value`). Never throws. */
export async function containerIds(
  labels: readonly string[],
  options: Partial<ToolOptions> = {},
): Promise<string[]> {
  for (const tool of TOOLS) {
    const ids: string[] = [];
    for (const label of labels) {
      const argv = ["ps", "-q", "--no-trunc", "--filter", `label=${label}`];
      const answer = await askTool([tool, ...argv], { timeoutMs: TIMEOUT_MS, ...options });
      if (answer.outcome !== "answered") break;
      ids.push(...answer.lines.filter((line) => /^[0-9a-f]{64}$/.test(line)));
    }
    if (ids.length > 0) return ids;
  }
  return [];
}
