/** Watches an engine by HTTP: finds where it answers, when it is ready, and whether it stays so. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { formatHostPort, type HostPort, isLoopback } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import { probeTcp } from "../../util/tcp.ts";
import type { ArgvFacts } from "../argv/argv.ts";
import { isLoopbackOnly } from "../process/network.ts";
import { PRESETS } from "../presets/all.ts";
import { probeHealth, probeModels, probeReady, type ProbeTarget } from "../ask/probe.ts";
import type { SupervisorSettings } from "./settings.ts";
import type { CompleteRules } from "../spec.ts";
import type { EngineKind, EngineModel } from "../status.ts";

export interface FoundEngine {
  kind: EngineKind;
  url: string;
  port: number;
  models: EngineModel[];
  loopbackOnly: boolean | null;
  maxInFlight: number;
  hostHeader: string | null;
}

/** What is known about an engine before it answers. */
export interface WatchedEngine {
  /** What its user configured: counts for more than the engine's own word. */
  rules: Pick<CompleteRules, "maxInFlight" | "healthPath" | "service">;
  /** What its command says: the engine's own word counts for more. */
  argvFacts: Pick<ArgvFacts, "kind" | "https" | "apiKey" | "maxInFlight" | "maxModelLen">;
  settings: SupervisorSettings;
  /** How long ago its tokens were last seen to flow; null: never, or not known. */
  flowAgeMs: () => number | null;
}

export interface WatchOptions extends WatchedEngine {
  /** Where it may answer by now, most likely first. */
  addresses: () => Promise<readonly HostPort[]>;
  /** Called when it is ready for the first time, and after each recovery. */
  onReady: (engine: FoundEngine) => void;
  /** Called for each probe that failed; `pending`: as an engine does that still starts. */
  onFailure: (failure: { reason: string; pending: boolean }) => void;
  /** Called for each health probe that went well. */
  onWell: () => void;
  /** Called with each later reading of the model list. */
  onModels: (models: EngineModel[]) => void;
}

/** Requests at once where neither user, engine, command nor kind tells; see `routing`. */
const DEFAULT_MAX_IN_FLIGHT = 256;

/** Settles when `signal` aborts. One probe at a time. */
export async function watchEngine(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { settings } = options;
  let engine: FoundEngine | null = null;
  let isWell = false;
  let modelsDue = 0;
  while (!signal.aborted) {
    try {
      if (engine === null || !isWell) {
        // After a break it may be another engine than before: everything is found out again.
        engine = await findEngine(options, signal);
        if (signal.aborted) return;
        options.onReady(engine);
        modelsDue = performance.now() + settings.modelsMs;
      } else {
        const target = targetOf(options, engine.url);
        await probeHealth(target, engine.kind, signal);
        if (performance.now() >= modelsDue) {
          const models = await probeModels(target, engine.kind, signal);
          options.onModels(withLengths(models, options));
          modelsDue = performance.now() + settings.modelsMs;
        }
        options.onWell();
      }
      isWell = true;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof LlmnodeError)) throw error;
      // An engine whose tokens flow is well, whatever its busy health route says.
      if (!(isWell && doesFlow(options))) {
        isWell = false;
        options.onFailure(describeFailure(error));
      }
    }
    await sleep(engine === null ? settings.startProbeMs : settings.healthProbeMs, signal);
  }
}

function doesFlow({ flowAgeMs, settings }: WatchOptions): boolean {
  const ageMs = flowAgeMs();
  return ageMs !== null && ageMs <= settings.flowGraceMs;
}

async function findEngine(options: WatchOptions, signal: AbortSignal): Promise<FoundEngine> {
  const failures: LlmnodeError[] = [];
  for (const address of await options.addresses()) {
    try {
      return await probeAddress(address, options, signal);
    } catch (error) {
      if (!(error instanceof LlmnodeError)) throw error;
      failures.push(error);
    }
  }
  // A port that answers wrongly says more than one that nobody listens on.
  throw (
    failures.find((failure) => failure.code !== "upstream_unreachable") ??
    failures[0] ??
    new LlmnodeError("upstream_unreachable", "its address is not known yet")
  );
}

async function probeAddress(
  address: HostPort,
  options: WatchOptions,
  signal: AbortSignal,
): Promise<FoundEngine> {
  const { settings, rules, argvFacts } = options;
  const timeoutMs = settings.connectTimeoutMs;
  const refused = await probeTcp(address, timeoutMs);
  if (refused !== null) {
    const message = `${formatHostPort(address)}: ${refused}`;
    throw new LlmnodeError("upstream_unreachable", message);
  }
  const url = `${argvFacts.https ? "https" : "http"}://${formatHostPort(address)}`;
  const target = targetOf(options, url);
  const { kind, models, capacity } = await probeReady(target, argvFacts.kind, signal);
  return {
    kind,
    url,
    port: address.port,
    models: withLengths(models, options),
    loopbackOnly: await isLoopbackOnly(address.host, address.port, { timeoutMs }),
    maxInFlight:
      rules.maxInFlight ??
      capacity ??
      argvFacts.maxInFlight ??
      PRESETS[kind].maxInFlight ??
      DEFAULT_MAX_IN_FLIGHT,
    // One that is reached by another name stands behind something that goes by that name.
    hostHeader:
      PRESETS[kind].wantsOwnHost && isLoopback(address.host) ? formatHostPort(address) : null,
  };
}

/** With the length that the command names, for engines whose list names none. */
function withLengths(models: EngineModel[], { argvFacts }: WatchedEngine): EngineModel[] {
  const length = argvFacts.maxModelLen;
  if (length === null) return models;
  return models.map((model) => ({ ...model, maxModelLen: model.maxModelLen ?? length }));
}

function targetOf({ argvFacts, settings, rules }: WatchedEngine, url: string): ProbeTarget {
  const { probeTimeoutMs, answerMaxBytes } = settings;
  return {
    url,
    apiKey: argvFacts.apiKey,
    probeTimeoutMs,
    answerMaxBytes,
    healthPath: rules.healthPath,
    isService: rules.service !== null,
  };
}

function describeFailure(error: LlmnodeError): { reason: string; pending: boolean } {
  const reason = [error.message, ...error.hints].join("; ");
  return { reason, pending: error.code !== "upstream_broken" };
}
