/** Watches an engine by HTTP: finds where it answers, when it is ready, and whether it stays so. */

import { LlmnodeError } from "../protocol/errors.ts";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import { sleep } from "../util/sleep.ts";
import { probeTcp } from "../util/tcp.ts";
import { isLoopbackOnly } from "./network.ts";
import { probeHealth, probeModels, probeReady, type ProbeTarget } from "./probe.ts";
import type { SupervisorSettings } from "./settings.ts";
import type { EngineKind, EngineModel } from "./status.ts";

export interface FoundEngine {
  kind: EngineKind;
  url: string;
  port: number;
  models: EngineModel[];
  loopbackOnly: boolean | null;
}

export interface WatchOptions {
  kind: EngineKind;
  https: boolean;
  apiKey: string | null;
  settings: SupervisorSettings;
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

/** Settles when `signal` aborts. One probe at a time. */
export async function watchEngine(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { settings } = options;
  let engine: FoundEngine | null = null;
  let isWell = false;
  let modelsDue = 0;
  while (!signal.aborted) {
    try {
      if (engine === null || !isWell) {
        // After a break it may be another engine than before: everything is found out anew.
        engine = await findEngine(options, signal);
        if (signal.aborted) return;
        options.onReady(engine);
        modelsDue = performance.now() + settings.modelsMs;
      } else {
        const target = targetOf(options, engine.url);
        await probeHealth(target, engine.kind, signal);
        if (performance.now() >= modelsDue) {
          options.onModels(await probeModels(target, engine.kind, signal));
          modelsDue = performance.now() + settings.modelsMs;
        }
        options.onWell();
      }
      isWell = true;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof LlmnodeError)) throw error;
      isWell = false;
      options.onFailure(describeFailure(error));
    }
    await sleep(engine === null ? settings.startProbeMs : settings.healthProbeMs, signal);
  }
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
    new LlmnodeError("upstream_unreachable", "it has not said yet where it listens")
  );
}

async function probeAddress(
  address: HostPort,
  options: WatchOptions,
  signal: AbortSignal,
): Promise<FoundEngine> {
  const timeoutMs = options.settings.connectTimeoutMs;
  const refused = await probeTcp(address, timeoutMs);
  if (refused !== null) {
    const message = `${formatHostPort(address)}: ${refused}`;
    throw new LlmnodeError("upstream_unreachable", message);
  }
  const url = `${options.https ? "https" : "http"}://${formatHostPort(address)}`;
  const ready = await probeReady(targetOf(options, url), options.kind, signal);
  const loopbackOnly = await isLoopbackOnly(address.host, address.port, { timeoutMs });
  return { ...ready, url, port: address.port, loopbackOnly };
}

function targetOf({ apiKey, settings }: WatchOptions, url: string): ProbeTarget {
  const { probeTimeoutMs, answerMaxBytes } = settings;
  return { url, apiKey, probeTimeoutMs, answerMaxBytes };
}

function describeFailure(error: LlmnodeError): { reason: string; pending: boolean } {
  const reason = [error.message, ...error.hints].join("; ");
  return { reason, pending: error.code !== "upstream_broken" };
}
