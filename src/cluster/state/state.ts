/** What the head knows of its cluster: plain data, each part with the one file that writes it. */

import type { DrainOrder } from "./drain-order.ts";
import type { Breaker } from "../faults/breaker.ts";
import { newBudget, type RetryBudget } from "../faults/budget.ts";
import { CLUSTER_LIMITS, type ClusterLimits } from "./limits.ts";
import { newPoison, type Poison } from "../faults/poison.ts";
import { newQueue, type Queue } from "./queue.ts";
import type { Hardware } from "./telemetry.ts";
import type { EngineReport } from "../../protocol/engine-report.ts";
import type { Host } from "../../protocol/messages.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";

export type WorkerState = "ready" | "stale" | "lost" | "draining" | "drained" | "left";

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
  /** What its worker reported last. Written by registry. */
  report: EngineReport;
  /** What it reported last about its load; `loadOf` tells whether it still holds. Written by load. */
  load: LoadFigures | null;
  models: ModelCard[];
  /** Pages of a list that is not complete yet. */
  pages: { revision: number; models: ModelCard[] } | null;
  route: Route;
  /** Leases held on it. Written by dispatch. */
  inFlight: number;
  /** Prompt tokens that its leases without a first byte are reckoned to cost. Written by dispatch. */
  pendingTokens: number;
  /** Tokens of a prompt that it reads in a second; null: not learnt. Written by learning. */
  prefillRate: number | null;
  /** When one of its requests last made progress; null: none did. Written by dispatch and stall. */
  progressAt: number | null;
  /** When its figures were last seen to move with tokens, or a model had loaded. Written by load, registry. */
  flowedAt: number | null;
  /** Set while it produces no output that should. Written by stall. */
  suspect: Suspect | null;
  /** When requests were last taken from it for that alone. Written by stall. */
  emptiedAt: number | null;
  /** How often it was started again, by the word for why it had ended. Written by registry. */
  restartReasons: Map<string, number>;
  /** Keeps requests away while it fails them. Written by dispatch and engine-runs. */
  breaker: Breaker;
  /** Lets others go first while it is overloaded. Written by overload and engine-runs. */
  overload: Overload;
  /** Set where this run of it refuses the key that the worker gave. Written by dispatch. */
  refusesKey: string | null;
  /** Since when it starts; null: it does not. Written, as the next two, by engine-runs. */
  startingSince: number | null;
  /** When its start was last seen to get on. */
  startMovedAt: number | null;
  /** How long its last start took; null: none was seen. */
  loadMs: number | null;
}

/** What it says about its load; null: it does not say. */
export interface LoadFigures {
  /** Requests that it runs, and that wait inside it, from any sender. */
  running: number | null;
  waiting: number | null;
  /** The share of its cache that is taken, 0 to 1. */
  kvUsage: number | null;
  /** Prompt tokens found in its prefix cache since its start, and looked up. */
  prefixHitTokens: number | null;
  prefixQueryTokens: number | null;
  /** A figure that moves with every token that it reads or writes. */
  flow: number | null;
  /** Tokens that its worker asked it for and did not get, in a row; null: none was asked for. */
  failedGenerations: number | null;
  /** When the engine said so. */
  sampledAt: number;
}

/** How much it has to do. Written by overload. */
export interface Overload {
  /** The sample that has been looked at last. */
  sample: LoadFigures | null;
  isOn: boolean;
  /** Until when it wants no requests, by its own answer. */
  busyUntil: number;
  /** The most leases that were held on it since the last sample, and between the two before. */
  peak: number;
  lastPeak: number;
}

export interface Suspect {
  /** Since when nothing came. */
  since: number;
  reason: string;
  /** When a request last waited for it. */
  heldAt: number;
}

export interface ModelCard {
  id: string;
  parent: string | null;
  maxModelLen: number | null;
  loaded: boolean | null;
  /** What the engine's own list says beside this. */
  extra: Readonly<Record<string, unknown>>;
}

export type ReplicaState =
  "ready" | "starting" | "unreachable" | "overloaded" | "excluded" | "draining";

export interface Replica {
  worker: Worker;
  engine: Engine;
  card: ModelCard;
  state: ReplicaState;
  /** Why it is not ready. */
  reason: string | null;
}

/** Every model that an engine has or is starting with, with its replicas in a stable order. */
export type Catalog = ReadonlyMap<string, readonly Replica[]>;

/** Lists that hold as long as the catalog does. */
export interface Offers {
  catalog: Catalog;
  revision: number;
  services: Catalog;
  all: readonly Replica[];
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
  /** Whether its worker knows the engine's process, and so how it ends. */
  hasProcess: boolean;
  model: string;
  /** Where the engine is reached directly; null: by lane. */
  url: string | null;
  /** The engine among those of its worker. */
  engineNumber: string;
  apiKey: string | null;
  hostHeader: string | null;
  /** The longest context that the replica takes, in tokens; null: not known. */
  maxModelLen: number | null;
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
  /** Since when it is waited for without a break. Written by dispatch and stall. */
  readingSince: number;
  /** Set once the request was told to go elsewhere or to end. */
  rescheduled: boolean;
  /** What the request had asked for. */
  request: ReplicaRequest;
}

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
  /** By worker, whether it is there or not. Written by drains. */
  drainOrders: Map<string, DrainOrder>;
  /** Written by dispatch. */
  leases: Map<number, Lease>;
  nextLease: number;
  lastTickAt: number;
  /** Requests that wait for a replica. Written by queue. */
  queue: Queue;
  /** Bodies that end engines. Written by dispatch and engine-runs. */
  poison: Poison;
  retries: RetryBudget;
  /** How long models take until they are ready, oldest first. Written by engine-runs. */
  loadTimes: Map<string, number>;
  /** Kept while the catalog is the same. Written by candidates. */
  offers: Offers | null;
}

export function createCluster(now: number, limits: Partial<ClusterLimits> = {}): ClusterState {
  const all = { ...CLUSTER_LIMITS, ...limits };
  return {
    limits: all,
    startedAt: now,
    workers: new Map(),
    sessions: 0,
    revision: 0,
    knownModels: new Map(),
    endedRuns: new Map(),
    drainOrders: new Map(),
    leases: new Map(),
    nextLease: 1,
    lastTickAt: now,
    queue: newQueue(),
    poison: newPoison(),
    retries: newBudget(all.retries),
    loadTimes: new Map(),
    offers: null,
  };
}
