/** Tells what an engine is, whether it is ready and what it serves, by HTTP alone. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { engineClient, parseJson, throwUnlessOk, type EngineClient } from "./engine-client.ts";
import { PRESETS } from "../presets/all.ts";
import { fieldOf, listOf, textOf } from "../presets/model-list.ts";
import type { EngineKind, EngineModel } from "../status.ts";

export interface ProbeTarget {
  /** Without a path. */
  url: string;
  apiKey: string | null;
  /** Null: by kind. */
  probeTimeoutMs: number | null;
  answerMaxBytes: number;
  /** See EngineRules. Default: by kind. */
  healthPath?: string | null;
  /** An HTTP server that serves no models: it is well when it answers at all. Default: no. */
  isService?: boolean;
}

export interface ReadyEngine {
  kind: EngineKind;
  models: EngineModel[];
  /** Requests that it should have at once, by its own word. */
  capacity: number | null;
}

// No such route in this version of the engine: then the model list alone decides.
const NO_ROUTE = new Set([404, 405, 501]);

/** A `generic` engine is identified by talking to it. Throws as EngineClient for one not ready. */
export async function probeReady(
  target: ProbeTarget,
  kind: EngineKind,
  signal: AbortSignal,
): Promise<ReadyEngine> {
  const client = clientFor(target, kind, signal);
  await checkHealth(client, kind, target);
  if (target.isService) return { kind, models: [], capacity: null };
  const mayBeSilent = kind === "generic" && isGiven(target.healthPath);
  let actual = kind;
  try {
    if (kind === "generic") actual = await identifyEngine(client);
  } catch (error) {
    // Some other service, which is ready by the word of its user's path.
    if (mayBeSilent && isBroken(error)) return { kind, models: [], capacity: null };
    throw error;
  }
  if (actual !== kind) await checkHealth(clientFor(target, actual, signal), actual, target);
  const models = await probeModels(target, actual, signal);
  if (models.length === 0 && PRESETS[actual].needsModels && !mayBeSilent) {
    throw new LlmnodeError("upstream_unreachable", "it lists no model yet");
  }
  return { kind: actual, models, capacity: await probeCapacity(target, actual, signal) };
}

/** Throws LlmnodeError unless the engine says that it is well. */
export async function probeHealth(
  target: ProbeTarget,
  kind: EngineKind,
  signal: AbortSignal,
): Promise<void> {
  await checkHealth(clientFor(target, kind, signal), kind, target);
}

/** The models of a running engine. Throws LlmnodeError if it does not say. */
export async function probeModels(
  target: ProbeTarget,
  kind: EngineKind,
  signal: AbortSignal,
): Promise<EngineModel[]> {
  if (target.isService) return [];
  try {
    return await PRESETS[kind].models(clientFor(target, kind, signal).json);
  } catch (error) {
    if (kind === "generic" && isGiven(target.healthPath) && isBroken(error)) return [];
    throw error;
  }
}

async function probeCapacity(
  target: ProbeTarget,
  kind: EngineKind,
  signal: AbortSignal,
): Promise<number | null> {
  try {
    return (await PRESETS[kind].capacity?.(clientFor(target, kind, signal).json)) ?? null;
  } catch (error) {
    // A version without that route: what its command or its kind tells counts.
    if (error instanceof LlmnodeError) return null;
    throw error;
  }
}

async function checkHealth(
  client: EngineClient,
  kind: EngineKind,
  target: ProbeTarget,
): Promise<void> {
  if (isGiven(target.healthPath)) {
    throwUnlessOk(target.healthPath, await client.get(target.healthPath));
    return;
  }
  if (target.isService) return await client.reach("/");
  const { healthPath, needsModels, unwell } = PRESETS[kind];
  const answer = await client.get(healthPath);
  // An engine that is ready without a model is ready when it answers at all.
  if (!needsModels || NO_ROUTE.has(answer.status)) return;
  throwUnlessOk(healthPath, answer);
  const complaint = unwell?.(parseJson(answer.text, `GET ${healthPath}`)) ?? null;
  if (complaint !== null) throw new LlmnodeError("upstream_unreachable", complaint);
}

function isGiven(path: string | null | undefined): path is string {
  return path !== null && path !== undefined;
}

function isBroken(error: unknown): boolean {
  return error instanceof LlmnodeError && error.code === "upstream_broken";
}

function clientFor(target: ProbeTarget, kind: EngineKind, signal: AbortSignal): EngineClient {
  return engineClient({
    url: target.url,
    apiKey: target.apiKey,
    timeoutMs: target.probeTimeoutMs ?? PRESETS[kind].probeTimeoutMs,
    answerMaxBytes: target.answerMaxBytes,
    signal,
  });
}

// `owned_by` of a model card, read in each engine's source (August 2026).
const OWNERS: Readonly<Record<string, EngineKind>> = {
  vllm: "vllm",
  sglang: "sglang",
  llamacpp: "llama-server",
  tensorrt_llm: "trtllm",
  lmdeploy: "lmdeploy",
  "llmnode-sim": "sim",
};

/**
 * The kind of engine that answers, or `generic` for one that lists models and is none of the known
 * ones. Throws LlmnodeError, see EngineClient, if it lists none in any known way.
 */
async function identifyEngine(client: EngineClient): Promise<EngineKind> {
  const list = await client.get("/v1/models");
  if ((list.status === 404 || list.status === 405) && (await isTei(client))) return "tei";
  throwUnlessOk("/v1/models", list);
  const card = listOf(fieldOf(parseJson(list.text, "GET /v1/models"), "data"))[0];
  const owner = textOf(fieldOf(card, "owned_by"));
  const known = Object.hasOwn(OWNERS, owner) ? OWNERS[owner] : undefined;
  if (known !== undefined) return known;
  if (owner !== "" && owner === fieldOf(card, "id") && fieldOf(card, "created") === 0) return "tgi";
  const greeting = (await client.get("/")).text.slice(0, 200);
  if (greeting.includes("Ollama is running")) return "ollama";
  if (greeting.includes("SGLang is running")) return "sglang";
  return (await isDynamo(client)) ? "dynamo" : "generic";
}

async function isTei(client: EngineClient): Promise<boolean> {
  const info = await jsonOrNull(client, "/info");
  return (
    fieldOf(info, "model_type") !== undefined && fieldOf(info, "max_input_length") !== undefined
  );
}

async function isDynamo(client: EngineClient): Promise<boolean> {
  return fieldOf(await jsonOrNull(client, "/live"), "status") === "live";
}

/** Null for an answer that only says that there is nothing of the kind. */
async function jsonOrNull(client: EngineClient, path: string): Promise<unknown> {
  try {
    return await client.json(path);
  } catch (error) {
    if (isBroken(error)) return null;
    throw error;
  }
}
