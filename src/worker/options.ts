/** What a worker is started with, and its limits. */

import type { EngineSpec } from "../engine/spec.ts";
import type { SupervisorSettings } from "../engine/supervise/settings.ts";
import type { TelemetrySettings } from "../telemetry/sampler.ts";
import type { HostPort } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import type { ExamineSettings, StallRestart } from "./examine.ts";
import type { LinkSettings } from "./link.ts";
import type { LogServiceSettings } from "./logs.ts";
import type { ViaProxySettings } from "./via-proxy.ts";

export interface WorkerOptions {
  /** The head's session port. */
  head: HostPort;
  /** An HTTP proxy through which the link goes, lanes included. Default: none. */
  viaProxy?: URL | null;
  /** For a head with `--insecure`: nothing is encrypted or authenticated. */
  insecure: boolean;
  /** A whole join token; null: the one of the head beside this worker, or its own credential. */
  joinToken: string | null;
  name: string | null;
  labels: Record<string, string>;
  /** What it runs or watches, handed down as it is. */
  engine: EngineSpec;
  /** How requests reach the engine: over connections of the worker's own, or the head's. */
  data: "auto" | "direct" | "lane";
  /** A URL by which the head reaches the engine. */
  advertise: string | null;
  dataDir: string;
  version: string;
  log: Log;
  /** Takes each line that the engine prints. */
  printLine: (line: string) => void;
  /** Whether a stalled engine is started again. Default: "auto". */
  stallRestart?: StallRestart;
  /** Ask a running worker of this slot to leave, and adopt its engine. Default: no. */
  adoptRunning?: boolean;
  /** Unix milliseconds by which all is to be stopped; the worker leaves as early as that needs. */
  until?: number | null;
  settings?: Partial<WorkerSettings>;
}

export const WORKER_DEFAULTS = {
  link: {} as Partial<LinkSettings>,
  viaProxy: {} as Partial<ViaProxySettings>,
  supervisor: {} as Partial<SupervisorSettings>,
  telemetry: {} as TelemetrySettings,
  logs: {} as Partial<LogServiceSettings>,
  examine: {} as Partial<ExamineSettings>,
  /** Lanes that may be open at once, whatever the head asks for. */
  maxLanes: 512,
  /** How often an unchanged load of the engine is repeated. */
  loadRepeatMs: 2000,
  /** How long running requests may go on after `stop`. */
  drainTimeoutMs: 30_000,
  /** How long `stop` waits for a head that is away, to learn what still runs. */
  drainWithoutHeadMs: 5000,
  /** Between two checks of the requests that still run. */
  drainPollMs: 100,
  /** Between two checks of the clock for `until`. */
  untilPollMs: 1000,
  /** What `until` leaves for saying goodbye. */
  leaveMarginMs: 2000,
  /** How long a running worker may take to leave when its engine is to be adopted. */
  adoptTimeoutMs: 15_000,
};

export type WorkerSettings = typeof WORKER_DEFAULTS;
