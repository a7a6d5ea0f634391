/** Reads the load of engines that tell it as JSON. */

import { parseJson } from "../../util/json.ts";
import { averageOf, type LoadReading, type LoadSource, sumOf, tidyLoad } from "../load-source.ts";
import { fieldOf, listOf } from "./model-list.ts";

/** SGLang's `/v1/loads`: one entry a data-parallel rank (srt/entrypoints/v1_loads.py). */
export function readSglangLoads(text: string): LoadReading | null {
  const ranks = listOf(fieldOf(parseJson(text), "loads"));
  const figures = (...names: string[]) =>
    ranks.flatMap((rank) => finiteOf(names.map((name) => fieldOf(rank, name))));
  const load = tidyLoad({
    running: sumOf(figures("num_running_reqs")),
    waiting: sumOf(figures("num_waiting_reqs")),
    kvUsage: averageOf(figures("token_usage")),
  });
  // Tokens in the cache: they grow with each that is generated or prefilled.
  const progress = sumOf(figures("num_used_tokens", "num_total_tokens"));
  return load === null ? null : { load, progress };
}

/** Requests that SGLang runs at once over all ranks, from the same answer; null: not told. */
export function sglangCapacity(body: unknown): number | null {
  const ranks = listOf(fieldOf(body, "loads"));
  return sumOf(ranks.flatMap((rank) => finiteOf([fieldOf(rank, "max_running_requests")])));
}

/** llama-server's `/slots`: `is_processing`, and `state` in its older versions. */
export function readLlamaSlots(text: string): LoadReading | null {
  const slots = listOf(parseJson(text));
  const busy = slots.flatMap((slot) => {
    const processing = fieldOf(slot, "is_processing");
    if (typeof processing === "boolean") return [processing];
    const state = fieldOf(slot, "state");
    return typeof state === "number" ? [state !== 0] : [];
  });
  if (busy.length === 0) return null;
  const load = tidyLoad({ running: busy.filter((is) => is).length });
  const progress = sumOf(
    slots.flatMap((slot) => {
      const next = fieldOf(slot, "next_token");
      const tokens = Array.isArray(next) ? next : [next];
      const decoded = tokens.map((token) => fieldOf(token, "n_decoded"));
      return finiteOf([...decoded, fieldOf(slot, "n_past")]);
    }),
  );
  return load === null ? null : { load, progress };
}

/** TensorRT-LLM's `/metrics`: each reading empties it for any other reader. */
export const trtllmIterations: LoadSource = {
  path: "/metrics",
  isLive: true,
  read(text) {
    const last = listOf(parseJson(text)).at(-1);
    const cache = fieldOf(last, "kvCacheStats");
    const [used, total] = [fieldOf(cache, "usedNumBlocks"), fieldOf(cache, "maxNumBlocks")];
    const load = tidyLoad({
      running: finiteOf([fieldOf(last, "numActiveRequests")])[0],
      waiting: finiteOf([fieldOf(last, "numQueuedRequests")])[0],
      kvUsage:
        typeof used === "number" && typeof total === "number" && total > 0 ? used / total : null,
    });
    const progress = finiteOf([fieldOf(last, "iter")])[0] ?? null;
    return load === null ? null : { load, progress };
  },
};

function finiteOf(values: readonly unknown[]): number[] {
  return values.filter((value): value is number => Number.isFinite(value));
}
