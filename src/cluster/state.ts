/** What the head knows of its cluster: plain data, each part with the one file that writes it. */

import type { ErrorCode } from "../protocol/errors.ts";
import type { LoadFigures } from "./load.ts";
import type { Hardware } from "./telemetry.ts";
import type { Host } from "../protocol/messages.ts";
import type { Want } from "./want.ts";

export type WorkerState = "ready" | "stale" | "lost" | "draining" | "drained" | "left";

export type EngineState =
  "starting" | "ready" | "suspect" | "unhealthy" | "stopping" | "backoff" | "failed" | "stopped";

export interface Worker {
  /** Stable across restarts of the worker. */
  id: string;
  /** Unique in the cluster. */
  name: string;
  run: string;
  epoch: number;
  /** The session whose messages count; those of older ones are ignored. Written by registry. */
  session: number;
  version: string;
  labels: Record<string, string>;
  host: Host | null;
  /** Where its session comes from, without the port. */
  address: string;
  /** How requests may reach its engines: "auto", "direct", "lane". */
  data: string;
  /** Whether the session is open. Written by registry. */
  connected: boolean;
  lastHeardAt: number;
  /** Why it takes no new requests, while it drains. Written by registry. */
  drain: string | null;
  left: boolean;
  /** Written by liveness. */
  state: WorkerState;
  reason: string | null;
  stateSince: number;
  engines: Map<string, Engine>;
  /** Written by telemetry. */
  hardware: Hardware;
  /** Leases held on it. Written by dispatch. */
  inFlight: number;
}

/** How the head gets to an engine. Written by registry, found out by the head. */
export type Route =
  | { via: "unknown" }
  | { via: "direct"; url: string }
  | { via: "lane" }
  | { via: "unreachable"; reason: string };

export interface Engine {
  /** `<worker id>/<number>`: unique in the cluster, stable across restarts. */
  key: string;
  number: string;
  run: string;
  kind: string;
  /** The name under which it is offered as an HTTP server; then it has no models. */
  service: string | null;
  state: EngineState;
  phase: string | null;
  reason: string | null;
  stateSince: number;
  port: number | null;
  https: boolean;
  loopbackOnly: boolean | null;
  advertise: string | null;
  apiKey: string | null;
  restarts: number;
  /** The leading process on the worker's machine. */
  pid: number | null;
  /** Whether the worker took it over from an earlier life of itself. */
  adopted: boolean;
  /** Name or short id of its container, or its compose project; null: none, or not known yet. */
  container: string | null;
  expectedModels: string[];
  /** Requests that it should have at once; null: its worker has not told. */
  maxInFlight: number | null;
  /** GPUs that its command asks for; null: none, or not told. */
  gpusWanted: number | null;
  /** The `Host` of requests that the head sends to it directly; null: its address. */
  hostHeader: string | null;
  /** What it said last about its load; `loadOf` tells whether it still holds. Written by load. */
  load: LoadFigures | null;
  /** The GPUs that it may use; empty: all of its machine, or it is not known. */
  gpus: string[];
  /** Why it ended last, until it is ready again; see EngineReport. */
  failure: string | null;
  hint: string | null;
  evidence: string[];
  /** Since when a starting engine is in its phase. */
  phaseSince: number | null;
  models: ModelCard[];
  /** Pages of a list that is not complete yet. */
  pages: { revision: number; models: ModelCard[] } | null;
  route: Route;
  /** Leases held on it. Written by dispatch. */
  inFlight: number;
  /** Prompt tokens that its leases without a first byte are reckoned to cost. Written by dispatch. */
  pendingTokens: number;
}

export interface ModelCard {
  id: string;
  parent: string | null;
  maxModelLen: number | null;
  loaded: boolean | null;
  /** What the engine's own list says beside this. */
  extra: Readonly<Record<string, unknown>>;
}

export interface Lease {
  id: number;
  workerId: string;
  workerName: string;
  /** The worker's run and the engine's run that were chosen. */
  workerRun: string;
  engineKey: string;
  engineRun: string;
  engineKind: string;
  model: string;
  /** Where the engine is reached directly; null: by lane. */
  url: string | null;
  /** The engine among those of its worker. */
  engineNumber: string;
  apiKey: string | null;
  hostHeader: string | null;
  /** When it was given out. */
  grantedAt: number;
  /** Tokens that the prompt is reckoned to have, and those that no cache is reckoned to hold. */
  promptTokens: number;
  missTokens: number;
  /** Why this replica, where the request wants to know. */
  explanation: string | null;
  /** Whether an engine byte has come back. */
  started: boolean;
  /** When the request last made progress on its own connection. */
  progressAt: number;
  /** Whether the engine's next byte is waited for; false while the client takes none. */
  reading: boolean;
  /** Set once the request was told to go elsewhere or to end. */
  recalled: boolean;
  /** What the request had asked for. */
  want: Want;
}

/** How a lease ended. */
export interface LeaseEnd {
  outcome: LeaseOutcome;
  /** What the engine said that the prompt was, and how much of it was in its cache; null: nothing. */
  promptTokens: number | null;
  cachedTokens: number | null;
}

/** As the proxy has it; see `proxy/failure.ts`. */
export type LeaseOutcome =
  | "ok"
  | "rejected"
  | "busy"
  | "engine_error"
  | "unreachable"
  | "broken"
  | "recalled"
  | "slow_client"
  | "client_gone";

export interface ClusterLimits {
  heartbeatIntervalMs: number;
  /** Up to this many workers the interval holds; above, it grows in proportion. */
  heartbeatWorkers: number;
  staleAfterMs: number;
  lostAfterMs: number;
  /** How long what an engine said about its load holds. */
  loadMaxAgeMs: number;
  /** How long another run with the same id is refused after the old one was last heard. */
  takeoverAfterMs: number;
  /** How long a request may go on after its process was reported to have ended: what the process
   * sent last may still be on its way. */
  endedGraceMs: number;
  /** How long a lost or left worker is still shown. */
  forgetAfterMs: number;
  /** How long after the head's start an unknown model may still be on its way. */
  settleMs: number;
  /** How long a model counts as known after it was last there. */
  knownModelMs: number;
  /** A tick that comes later than this after the one before moves all deadlines. */
  tickIntervalMs: number;
  maxWorkers: number;
  maxEnginesPerWorker: number;
  maxModelsPerWorker: number;
  maxKnownModels: number;
}

/** The defaults of the design; the README names those that users notice. */
export const CLUSTER_LIMITS: ClusterLimits = {
  heartbeatIntervalMs: 1000,
  heartbeatWorkers: 500,
  staleAfterMs: 5000,
  lostAfterMs: 15_000,
  loadMaxAgeMs: 5000,
  takeoverAfterMs: 5000,
  endedGraceMs: 2000,
  forgetAfterMs: 600_000,
  settleMs: 30_000,
  knownModelMs: 3_600_000,
  tickIntervalMs: 250,
  maxWorkers: 4096,
  maxEnginesPerWorker: 16,
  maxModelsPerWorker: 4096,
  maxKnownModels: 16_384,
};

export interface ClusterState {
  readonly limits: ClusterLimits;
  readonly startedAt: number;
  workers: Map<string, Worker>;
  /** Sessions handed out so far. Written by registry. */
  sessions: number;
  /** Grows with every change that can alter which replicas exist or may be picked. */
  revision: number;
  /** Models that were there, and when last. Written by registry. */
  knownModels: Map<string, number>;
  /** Runs of workers and engines that ended, and when; kept for a while. Written by registry. */
  endedRuns: Map<string, number>;
  /** Written by dispatch. */
  leases: Map<number, Lease>;
  nextLease: number;
  lastTickAt: number;
}

export function createCluster(now: number, limits: Partial<ClusterLimits> = {}): ClusterState {
  return {
    limits: { ...CLUSTER_LIMITS, ...limits },
    startedAt: now,
    workers: new Map(),
    sessions: 0,
    revision: 0,
    knownModels: new Map(),
    endedRuns: new Map(),
    leases: new Map(),
    nextLease: 1,
    lastTickAt: now,
  };
}

/** What the head tells a worker at its heartbeat, scaled to the size of the cluster. */
export function heartbeatPlan(state: ClusterState): {
  intervalMs: number;
  staleAfterMs: number;
  lostAfterMs: number;
  loadMaxAgeMs: number;
} {
  const { limits } = state;
  const factor = Math.max(1, state.workers.size / limits.heartbeatWorkers);
  return {
    intervalMs: Math.round(limits.heartbeatIntervalMs * factor),
    staleAfterMs: Math.round(limits.staleAfterMs * factor),
    lostAfterMs: Math.round(limits.lostAfterMs * factor),
    loadMaxAgeMs: Math.round(limits.loadMaxAgeMs * factor),
  };
}

/** A session that is not accepted. */
export interface RefusedJoin {
  code: ErrorCode;
  reason: string;
  hint: string;
  retry: boolean;
}
