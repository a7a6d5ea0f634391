/** Tells whether an engine is ready and what it serves, by HTTP alone. */

import { LlmnodeError } from "../protocol/errors.ts";
import { engineClient, parseJson, throwUnlessOk, type EngineClient } from "./engine-client.ts";
import { identifyEngine } from "./identify.ts";
import { PRESETS } from "./presets/all.ts";
import type { EngineKind, EngineModel } from "./status.ts";

export interface ProbeTarget {
  /** Without a path. */
  url: string;
  apiKey: string | null;
  /** Null: by kind. */
  probeTimeoutMs: number | null;
  answerMaxBytes: number;
}

export interface ReadyEngine {
  kind: EngineKind;
  models: EngineModel[];
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
  await checkHealth(client, kind);
  const actual = kind === "generic" ? await identifyEngine(client) : kind;
  if (actual !== kind) await checkHealth(clientFor(target, actual, signal), actual);
  const models = await probeModels(target, actual, signal);
  if (models.length === 0 && PRESETS[actual].needsModels) {
    throw new LlmnodeError("upstream_unreachable", "it lists no model yet");
  }
  return { kind: actual, models };
}

/** Throws LlmnodeError unless the engine says that it is well. */
export async function probeHealth(
  target: ProbeTarget,
  kind: EngineKind,
  signal: AbortSignal,
): Promise<void> {
  await checkHealth(clientFor(target, kind, signal), kind);
}

/** The models of a running engine. Throws LlmnodeError if it does not say. */
export function probeModels(
  target: ProbeTarget,
  kind: EngineKind,
  signal: AbortSignal,
): Promise<EngineModel[]> {
  return PRESETS[kind].models(clientFor(target, kind, signal).json);
}

async function checkHealth(client: EngineClient, kind: EngineKind): Promise<void> {
  const { healthPath, needsModels, unwell } = PRESETS[kind];
  const answer = await client.get(healthPath);
  // An engine that is ready without a model is ready when it answers at all.
  if (!needsModels || NO_ROUTE.has(answer.status)) return;
  throwUnlessOk(healthPath, answer);
  const complaint = unwell?.(parseJson(answer.text, `GET ${healthPath}`)) ?? null;
  if (complaint !== null) throw new LlmnodeError("upstream_unreachable", complaint);
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
