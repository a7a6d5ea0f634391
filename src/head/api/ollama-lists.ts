/** Ollama's `/api/tags` and `/api/ps` for the whole cluster: the union of its Ollama engines. */

import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import { messageOf } from "../../protocol/errors.ts";
import { AnswerCollector, type HttpRequest, type Upstream } from "../../util/http/exchange.ts";
import type { Log } from "../../util/log.ts";
import { inTurns, listAnswer } from "../http/lists.ts";
import type { ListedAliases } from "../store/aliases.ts";
import { fieldsIn, isRecord, parseJson } from "../../util/json.ts";

export interface OllamaListsOptions {
  state: ClusterState;
  /** Listed where one of their models is. */
  aliases: ListedAliases;
  /** The way to an engine; null while there is none. */
  upstream: (worker: Worker, engine: Engine) => Upstream | null;
  log: Log;
  /** How long an engine may take; one that takes longer is left out. */
  timeoutMs: number;
  /** How long an answer is good for further clients. */
  maxAgeMs: number;
}

export type OllamaPath = "/api/tags" | "/api/ps";

/** One sick engine never makes it fail; models that `allows` is false of are left out. */
export type OllamaLists = (
  path: OllamaPath,
  allows: (model: string) => boolean,
) => Promise<Response>;

/** No engine lists more than this; what is larger is not a list. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
const REQUEST: Omit<HttpRequest, "path"> = {
  method: "GET",
  host: null,
  fields: "accept-encoding: identity\r\n",
  body: null,
  length: null,
  fresh: false,
};

export function createOllamaLists(options: OllamaListsOptions): OllamaLists {
  const cache = new Map<OllamaPath, { at: number; models: Promise<unknown[]> }>();
  return async (path, allows) => {
    const now = performance.now();
    let cached = cache.get(path);
    if (!cached || now - cached.at > options.maxAgeMs) {
      cached = { at: now, models: union(options, path) };
      cache.set(path, cached);
    }
    const models = await cached.models;
    const listed = path === "/api/tags" ? withAliases(models, options) : models;
    const allowed = listed.values().filter((model) => allows(nameOf(model) ?? ""));
    return listAnswer([["models", allowed]]);
  };
}

/** An alias is listed as its first model that is, under its own name. */
function withAliases(models: readonly unknown[], { aliases }: OllamaListsOptions): unknown[] {
  const byName = new Map(models.map((model) => [nameOf(model), model]));
  for (const alias of aliases.names()) {
    const found = (aliases.modelsOf(alias) ?? [])
      .map((name) => byName.get(name) ?? byName.get(`${name}:latest`))
      .find((model) => model !== undefined);
    if (!isRecord(found)) continue;
    byName.set(alias, { ...found, name: alias, model: alias });
  }
  return [...byName.values()];
}

function nameOf(model: unknown): string | null {
  const { name } = fieldsIn(model);
  return typeof name === "string" ? name : null;
}

async function union(options: OllamaListsOptions, path: OllamaPath): Promise<unknown[]> {
  const engines = [...options.state.workers.values()]
    .filter((worker) => worker.state === "ready")
    .flatMap((worker) => [...worker.engines.values()].map((engine) => ({ worker, engine })))
    .filter(({ engine }) => engine.report.kind === "ollama" && engine.report.state === "ready");
  const asked: Promise<unknown[]>[] = [];
  await inTurns(engines, (at) => asked.push(ask(options, at, path)));
  const byName = new Map<string, unknown>();
  await inTurns(await Promise.all(asked), (models) => {
    for (const model of models) {
      const name = nameOf(model);
      if (name !== null && !byName.has(name)) byName.set(name, model);
    }
  });
  return [...byName.values()];
}

async function ask(
  options: OllamaListsOptions,
  { worker, engine }: { worker: Worker; engine: Engine },
  path: OllamaPath,
): Promise<unknown[]> {
  const upstream = options.upstream(worker, engine);
  if (!upstream) return [];
  const reader = new AnswerCollector(MAX_ANSWER_BYTES);
  const late = setTimeout(() => reader.fail(new Error("no answer in time")), options.timeoutMs);
  const exchange = upstream({ ...REQUEST, path }, reader);
  try {
    const { status, bytes, isWhole } = await reader.answer;
    if (status !== 200 || !isWhole) return [];
    const { models } = fieldsIn(parseJson(bytes.toString()));
    return Array.isArray(models) ? models : [];
  } catch (error) {
    const fields = { engine: engine.key, path, error: messageOf(error) };
    options.log.debug("an engine is left out of a list", fields);
    return [];
  } finally {
    clearTimeout(late);
    exchange.abort();
  }
}
