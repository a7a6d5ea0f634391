/** A cluster in a few words, for tests of the pure code. */

import { join, type JoinResult } from "../../src/cluster/state/admission.ts";
import { release } from "../../src/cluster/dispatch/dispatch.ts";
import type { LeaseEnd, ReplicaRequest } from "../../src/protocol/replica-request.ts";
import type { RowContext, Throughput } from "../../src/cluster/rows/context.ts";
import { createCatalogReader } from "../../src/cluster/state/catalog.ts";
import { createRouter } from "../../src/cluster/routing/routing.ts";
import { reportEngine, reportModels, setRoute } from "../../src/cluster/state/registry.ts";
import type { ClusterLimits } from "../../src/cluster/state/limits.ts";
import {
  type ClusterState,
  createCluster,
  type Engine,
  type Lease,
  type Worker,
} from "../../src/cluster/state/state.ts";
import {
  unknownReport,
  type WireEngineReport,
  writeReport,
} from "../../src/protocol/engine-report.ts";
import type { Hello } from "../../src/protocol/messages.ts";

export const T0 = 1_000_000;

export function hello(id: string, more: Partial<Hello> = {}): Hello {
  return {
    protocol: 2,
    minProtocol: 2,
    version: "0.1.0",
    workerId: `worker-${id}`,
    name: id,
    nameChosen: false,
    run: `run-${id}`,
    epoch: 1,
    labels: {},
    host: null,
    sentAt: 0,
    data: "auto",
    continues: "",
    ...more,
  };
}

export function report(more: Partial<WireEngineReport> = {}): WireEngineReport {
  return {
    ...writeReport("1", unknownReport(0), 0),
    run: "engine-run",
    kind: "vllm",
    state: "READY",
    port: 8000,
    ...more,
  };
}

export function cluster(limits: Partial<ClusterLimits> = {}): ClusterState {
  return createCluster(T0, limits);
}

export function tryJoin(state: ClusterState, who: Hello, now = T0): JoinResult {
  return join(state, { hello: who, address: "10.0.0.9" }, now);
}

export function accepted(result: JoinResult): Extract<JoinResult, { accepted: true }> {
  if (!result.accepted) throw new Error(`refused: ${result.refusal.reason}`);
  return result;
}

export function refusal(result: JoinResult): { code: string; reason: string; retry: boolean } {
  if (result.accepted) throw new Error("accepted");
  return result.refusal;
}

/** A worker with one engine that is ready, reachable and has these models. */
export function addWorker(
  state: ClusterState,
  id: string,
  options: { models: string[]; now?: number; run?: string },
): { worker: Worker; engine: Engine; session: number } {
  const now = options.now ?? T0;
  const result = accepted(tryJoin(state, hello(id), now));
  const { worker } = result;
  const run = options.run ?? `engine-run-${id}`;
  const change = reportEngine(state, { worker, report: report({ run }) }, now);
  if (!change) throw new Error("no engine");
  setModels(state, worker, { models: options.models, now });
  setRoute(state, change.engine, { via: "direct", url: `http://${id}` });
  return { worker, engine: change.engine, session: result.session };
}

/** A router without a past. */
export const router = createRouter();

/** Gives a lease back. */
export function giveBack(state: ClusterState, lease: Lease, more: Partial<LeaseEnd> = {}): void {
  const end: LeaseEnd = {
    outcome: "ok",
    promptTokens: null,
    cachedTokens: null,
    retryAfterMs: null,
    ...more,
  };
  release({ state, router }, lease, { ...end, now: T0 });
}

/** A request for a model, anywhere. */
export function request(model: string, more: Partial<ReplicaRequest> = {}): ReplicaRequest {
  return {
    model,
    fallbacks: [],
    service: null,
    once: false,
    oneModel: false,
    kinds: null,
    worker: null,
    exclude: [],
    prompt: null,
    session: null,
    caller: "",
    engineRun: null,
    minContext: null,
    bodyHash: null,
    bodyBytes: 0,
    stream: false,
    explain: false,
    ...more,
  };
}

let revision = 0;

export function setModels(
  state: ClusterState,
  worker: Worker,
  { models, now = T0 }: { models: string[]; now?: number },
): void {
  revision += 1;
  const list = {
    engine: "1",
    run: "",
    revision,
    models: models.map((id) => ({ id, parent: "", card: "" })),
  };
  reportModels(state, { worker, list: { ...list, more: false } }, now);
}

export const NOTHING: Throughput = {
  requestsPerS: null,
  outputTokensPerS: null,
  ttftMs: null,
  itlMs: null,
  errorRatio: null,
};

/** What rows are made from, with nothing passing through. */
export function rowContext(state: ClusterState, more: Partial<RowContext> = {}): RowContext {
  return {
    state,
    catalog: createCatalogReader(state)(),
    now: T0,
    ofWorker: () => NOTHING,
    ofModel: () => NOTHING,
    outputHistory: () => [null, 5],
    aliases: [],
    ...more,
  };
}
