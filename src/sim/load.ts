/** The log of a start: a banner, then the lines that vLLM prints while a model loads. */

import { cleanLine } from "../util/text.ts";
import type { SimOptions } from "./options.ts";

interface LogLine {
  /** When it is printed, as a share of the whole load time. */
  at: number;
  text: string;
}

/** The first line of the log, before anything can fail. */
export function banner(models: string[]): string {
  return `llmnode sim: a simulated engine, no model runs here; serving ${models.map((m) => cleanLine(m, 200)).join(", ")}`;
}

/** The lines of a load that takes `loadTimeMs`, in order (texts: vLLM's and tqdm's). */
export function loadLines(models: string[], loadTimeMs: number): LogLine[] {
  const seconds = (share: number) => ((loadTimeMs * share) / 1000).toFixed(2);
  const model = cleanLine(models[0] ?? "", 200);
  const shards = 5;
  const loading = Array.from({ length: shards + 1 }, (_, done) => ({
    at: 0.05 + 0.1 * done,
    text: `Loading safetensors checkpoint shards: ${String((100 * done) / shards).padStart(3)}% Completed | ${done}/${shards}`,
  }));
  const capturing = [0, 25, 50, 75, 100].map((percent) => ({
    at: 0.8 + 0.0015 * percent,
    text: `Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): ${String(percent).padStart(3)}%`,
  }));
  return [
    { at: 0, text: `Starting to load model ${model}...` },
    ...loading,
    { at: 0.56, text: `Loading weights took ${seconds(0.5)} seconds` },
    { at: 0.58, text: `Model loading took 0.00 GiB memory and ${seconds(0.53)} seconds` },
    { at: 0.6, text: `Dynamo bytecode transform time: ${seconds(0.08)} s` },
    { at: 0.76, text: `Compiling a graph for compile range (1, 2048) takes ${seconds(0.1)} s` },
    { at: 0.78, text: "Available KV cache memory: 0.00 GiB" },
    ...capturing,
    { at: 0.97, text: `Graph capturing finished in ${seconds(0.15)} secs, took 0.00 GiB` },
    {
      at: 1,
      text: `init engine (profile, create kv cache, warmup model) took ${seconds(1)} s (simulated)`,
    },
  ];
}

/** Prints the load over its time. Rejects with the signal's reason when that is aborted. */
export async function load(options: SimOptions, signal?: AbortSignal): Promise<void> {
  const began = performance.now();
  for (const { at, text } of loadLines(options.models, options.loadTimeMs)) {
    await delay(began + at * options.loadTimeMs - performance.now(), signal);
    options.print(text);
  }
}

function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    if (ms <= 0) {
      resolve();
      return;
    }
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
