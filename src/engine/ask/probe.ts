/** Tells whether an engine is ready and what it serves, by HTTP alone. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { engineClient, parseJson, throwUnlessOk, type EngineClient } from "./engine-client.ts";
import { identifyEngine } from "./identify.ts";
import { PRESETS } from "../presets/all.ts";
import type { EngineKind, EngineModel } from "../status.ts";

export interface ProbeTarget {
  /** Without a path. */
  url: string;
  apiKey: string | null;
  /** Null: by kind. */
  probeTimeoutMs: number | null;
  answerMaxBytes: number;
  /**
   * The path that answers 2xx when the engine is well, named by its user. With it a `generic`
   * server need not list models. Default: by kind.
   */
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

/**
 * Returns what a ready engine is and serves; a `generic` one is identified by talking to it.
 * Throws LlmnodeError, see EngineClient, for one that is not ready.
 */
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
