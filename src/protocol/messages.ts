/** The messages of `proto/llmnode.proto` as TypeScript sees them; that file says what they mean. */

import type { WireEngineReport } from "./engine-report.ts";

export interface Hello {
  protocol: number;
  minProtocol: number;
  version: string;
  workerId: string;
  name: string;
  nameChosen: boolean;
  run: string;
  epoch: number;
  labels: Record<string, string>;
  host: Host | null;
  sentAt: number;
  data: string;
  continues: string;
}

export interface Host {
  hostname: string;
  os: string;
  arch: string;
  cpus: number;
  memoryBytes: number;
  bootId: string;
  networkNamespace: string;
}

export interface ModelList {
  engine: string;
  run: string;
  revision: number;
  models: Model[];
  more: boolean;
}

export interface Model {
  id: string;
  parent: string;
  maxModelLen?: number;
  loaded?: boolean;
  card: string;
}

export interface Heartbeat {
  sequence: number;
  /** Only what is new. */
  loads?: EngineLoad[];
  host?: HostTelemetry | null;
  /** All of them; they and `gpuProblem` speak together. */
  gpus?: GpuTelemetry[];
  gpuProblem?: string;
}

/** What the machine does not report is absent. */
export interface HostTelemetry {
  cpuPercent?: number;
  memoryUsedBytes?: number;
  memoryBytes?: number;
  diskFreeBytes?: number;
  netRxBytesPerS?: number;
  netTxBytesPerS?: number;
  ageMs: number;
}

/** What the driver does not report is absent. */
export interface GpuTelemetry {
  uuid: string;
  index: number;
  name: string;
  utilizationPercent?: number;
  memoryUsedBytes?: number;
  memoryTotalBytes?: number;
  powerWatts?: number;
  powerLimitWatts?: number;
  temperatureCelsius?: number;
  unified: boolean;
  migParent: string;
  ageMs: number;
  engineMemoryBytes?: number;
}

/** What the engine does not say is absent. */
export interface EngineLoad {
  engine: string;
  running?: number;
  waiting?: number;
  kvUsage?: number;
  prefixHitTokens?: number;
  prefixQueryTokens?: number;
  sampleAgeMs: number;
  /** Its size means nothing. */
  flow?: number;
  /** Absent: none has ended. */
  failedGenerations?: number;
}

export interface Goodbye {
  left: boolean;
  reason: string;
  deadlineMs: number;
}

export interface Welcome {
  protocol: number;
  version: string;
  headRun: string;
  name: string;
  heartbeatIntervalMs: number;
  staleAfterMs: number;
  lostAfterMs: number;
  sentAt: number;
  /** Empty: the worker keeps what it has. */
  credential: string;
  lanePort: number;
  laneKey: string;
  lanes: number;
}

export interface Refusal {
  code: string;
  reason: string;
  hint: string;
  retry: boolean;
}

export interface HeartbeatAck {
  sequence: number;
  inFlight: number;
  /** 0: as before. */
  heartbeatIntervalMs: number;
}

export interface Drain {
  active: boolean;
  reason: string;
}

export interface Examine {
  engine: string;
  look: boolean;
  ask: boolean;
}

/** `message` names the case that is set, as proto-loader's `oneofs` gives it. */
export type WorkerMessage =
  | { message: "hello"; hello: Hello }
  | { message: "engine"; engine: WireEngineReport }
  | { message: "models"; models: ModelList }
  | { message: "heartbeat"; heartbeat: Heartbeat }
  | { message: "goodbye"; goodbye: Goodbye };

export type HeadMessage =
  | { message: "welcome"; welcome: Welcome }
  | { message: "refusal"; refusal: Refusal }
  | { message: "heartbeatAck"; heartbeatAck: HeartbeatAck }
  | { message: "openLanes"; openLanes: { count: number } }
  | { message: "drain"; drain: Drain }
  | { message: "restartEngine"; restartEngine: { engine: string; reason: string } }
  | { message: "notice"; notice: { code: string; text: string; hint: string } }
  | { message: "examine"; examine: Examine };

/** What arrives from a newer peer: no case that this binary knows. */
export interface UnknownMessage {
  message?: undefined;
}

/** Versions of the contract that this binary speaks. 1 had other frames on its lanes. */
export const PROTOCOL = 2;
export const MIN_PROTOCOL = 2;

/** The longest message of a session, in bytes on the wire. */
export const MAX_MESSAGE_BYTES = 16 * 1024;
