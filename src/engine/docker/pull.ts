/** Reads the progress of an image pull from what the container tools print without a terminal. */

import type { EngineProgress } from "../state.ts";

/** Layers that are told apart; an image with more only shows a less exact percentage. */
const MAX_LAYERS = 512;

// docker: "Unable to find image 'x' locally", "latest: Pulling from a/b", "<layer>: Pulling fs
// layer" ... "<layer>: Pull complete", "Status: Downloaded newer image for x" (docker/cli and moby
// print these in August 2026). podman: "Trying to pull x...", "Copying blob <layer> done",
// "Writing manifest to image destination". compose: "svc Pulling", "svc Pulled".
const BEGIN =
  /^Unable to find image .* locally$|^\S+: Pulling from |^Trying to pull \S+\.\.\.$|^ ?(?:Container )?\S+ Pulling\b/;
const LAYER_KNOWN = /^([0-9a-f]{12}): Pulling fs layer$/;
const LAYER_DONE = /^([0-9a-f]{12}): (?:Pull complete|Already exists)$/;
const END =
  /^Status: (?:Downloaded newer image|Image is up to date) for |^Writing manifest to image destination|^ ?\S+ Pulled\b/;

/** Reads the phase that a line announces; null for one that tells of no pull. */
export function createPullReader(): (line: string) => EngineProgress | null {
  const known = new Set<string>();
  const done = new Set<string>();
  return (line) => {
    if (END.test(line)) return { phase: "spawn", percent: null };
    const started = LAYER_KNOWN.exec(line)?.[1];
    const finished = LAYER_DONE.exec(line)?.[1];
    if (started === undefined && finished === undefined) {
      return BEGIN.test(line) ? { phase: "pull", percent: null } : null;
    }
    if (known.size < MAX_LAYERS) known.add(started ?? finished ?? "");
    if (finished !== undefined && known.has(finished)) done.add(finished);
    // The tool names all layers first: a percentage before that would only fall.
    if (finished === undefined) return { phase: "pull", percent: null };
    return { phase: "pull", percent: Math.floor((100 * done.size) / known.size) };
  };
}
