/** Ollama's `/api/tags` and `/api/ps` for the whole cluster: the union of its Ollama engines. */

import type { ClusterState, Engine, Worker } from "../cluster/state.ts";
import { messageOf } from "../protocol/errors.ts";
import type { Upstream } from "../proxy/upstream.ts";
import type { Log } from "../util/log.ts";

export interface OllamaListsOptions {
  state: ClusterState;
  /** The way to an engine; null while there is none. */
  upstream: (worker: Worker, engine: Engine) => Upstream | null;
  log: Log;
  /** How long an engine may take; one that takes longer is left out. */
  timeoutMs: number;
  /** How long an answer is good for further clients. */
  maxAgeMs: number;
}

export type OllamaPath = "/api/tags" | "/api/ps";

/** One sick engine never makes it fail. */
export type OllamaLists = (path: OllamaPath) => Promise<Response>;

/** No engine lists more than this; what is larger is not a list. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export function createOllamaLists(options: OllamaListsOptions): OllamaLists {
  const cache = new Map<OllamaPath, { at: number; models: Promise<unknown[]> }>();
  return async (path) => {
    const now = performance.now();
    let cached = cache.get(path);
    if (!cached || now - cached.at > options.maxAgeMs) {
      cached = { at: now, models: union(options, path) };
      cache.set(path, cached);
    }
    return Response.json({ models: await cached.models });
  };
}

async function union(options: OllamaListsOptions, path: OllamaPath): Promise<unknown[]> {
  const engines = [...options.state.workers.values()]
    .filter((worker) => worker.state === "ready")
    .flatMap((worker) => [...worker.engines.values()].map((engine) => ({ worker, engine })))
    .filter(({ engine }) => engine.kind === "ollama" && engine.state === "ready");
  const lists = await Promise.all(engines.map((at) => ask(options, at, path)));
  const byName = new Map<string, unknown>();
  for (const model of lists.flat()) {
    const name = typeof model === "object" && model !== null && "name" in model ? model.name : null;
    if (typeof name === "string" && !byName.has(name)) byName.set(name, model);
  }
  return [...byName.values()];
}

async function ask(
  options: OllamaListsOptions,
  { worker, engine }: { worker: Worker; engine: Engine },
  path: OllamaPath,
): Promise<unknown[]> {
  const upstream = options.upstream(worker, engine);
  if (!upstream) return [];
  try {
    const response = await upstream({
      path,
      method: "GET",
      headers: new Headers({ "accept-encoding": "identity" }),
      body: null,
      signal: AbortSignal.timeout(options.timeoutMs),
    });
    const length = Number(response.headers.get("content-length") ?? 0);
    if (!response.ok || length > MAX_ANSWER_BYTES) return [];
    const value: unknown = await response.json();
    const models =
      typeof value === "object" && value !== null && "models" in value ? value.models : null;
    return Array.isArray(models) ? models : [];
  } catch (error) {
    options.log.debug("an engine is left out of a list", {
      engine: engine.key,
      path,
      error: messageOf(error),
    });
    return [];
  }
}
