/** Which models of a simulated Ollama are loaded, and until when. */

import { delay } from "../core/load.ts";
import type { SimOptions } from "../core/options.ts";

/** Ollama's default of `keep_alive`. */
const KEEP_MS = 5 * 60 * 1000;

export interface Memory {
  /**
   * Resolves when the model is loaded, with the milliseconds that this took; rejects when the
   * signal aborts. Requests that come meanwhile wait for the same load. Each call keeps the model
   * for five more minutes.
   */
  load: (model: string, signal: AbortSignal) => Promise<number>;
  unload: (model: string) => void;
  /** The loaded models with the time (milliseconds since the epoch) at which each is let go. */
  loaded: () => Map<string, number>;
}

export function createMemory({ loadTimeMs, print }: SimOptions): Memory {
  const expiry = new Map<string, number>();
  const loads = new Map<string, { dueAt: number; waiting: number }>();
  const loaded = () => {
    const now = Date.now();
    for (const [model, until] of expiry) if (until <= now) expiry.delete(model);
    return expiry;
  };

  const wait = async (model: string, signal: AbortSignal) => {
    const now = performance.now();
    const load = loads.get(model) ?? { dueAt: now + loadTimeMs, waiting: 0 };
    if (load.waiting === 0) print("starting llama-server (simulated)");
    load.waiting += 1;
    loads.set(model, load);
    try {
      await delay(load.dueAt - now, signal);
    } finally {
      load.waiting -= 1;
      // The last one to leave breaks the load off.
      if (load.waiting === 0) loads.delete(model);
    }
  };

  return {
    async load(model, signal) {
      const began = performance.now();
      if (!loaded().has(model)) await wait(model, signal);
      expiry.set(model, Date.now() + KEEP_MS);
      return performance.now() - began;
    },
    unload: (model) => void expiry.delete(model),
    loaded,
  };
}

/** The name with its tag, which is `latest` unless it is said. */
export function canonicalName(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1).includes(":") ? name : `${name}:latest`;
}
