/** What a head is started with, and its limits. */

import os from "node:os";
import type { RouteSettings } from "../cluster/routing/policies.ts";
import type { ClusterLimits } from "../cluster/state/limits.ts";
import { KEY_LIMITER_DEFAULTS } from "../cluster/quota/key.ts";
import type { PROXY_DEFAULTS } from "../proxy/proxy.ts";
import type { HostPort } from "../util/host-port.ts";
import type { GuardOptions } from "./access/guard.ts";
import type { TlsFiles } from "./api/client-tls.ts";
import type { LaneSettings } from "./transport/lane-pool.ts";
import type { RequestLogOptions } from "./metrics/request-log.ts";
import type { UsageSettings } from "./quota/usage.ts";

export interface HeadOptions extends Omit<GuardOptions, "store" | "delay" | "onFailure"> {
  /** For clients. */
  listen: HostPort;
  /** The certificate and key by which clients are served; plain HTTP by default. */
  tls?: TlsFiles | null;
  /** For workers. */
  sessionListen: HostPort;
  /** For the lanes of workers. Default: any port at the address for their sessions. */
  laneListen?: HostPort;
  /** Addresses and ranges outside a worker's own that its `--advertise` may name. */
  allowAdvertise?: readonly string[];
  /** The origin whose web pages may call the API, `*` for any; none by default. */
  corsOrigin?: string;
  /** Whether answers tell the worker, the attempts and the waiting time. */
  infoHeaders?: boolean;
  /** Whether a stream whose engine breaks off may go on elsewhere; `auto` by default. */
  resume?: "auto" | "off";
  /** Puts what is asked and answered into the request log. */
  logBodies?: boolean;
  /** Where finished requests are written, one line each; nowhere by default. */
  requestLog?: Pick<RequestLogOptions, "format" | "write">;
  /** An OpenTelemetry collector that gets traces. */
  otlp?: string;
  /** How replicas are picked; by the score of caches and load by default. */
  routing?: RouteSettings;
  /** A port of its own for what operators ask; then it is not answered where clients are. */
  adminListen?: HostPort | null;
  version: string;
  settings?: Partial<HeadSettings>;
}

export type HeadSettings = typeof HEAD_DEFAULTS;

export const HEAD_DEFAULTS = {
  cluster: {} as Partial<ClusterLimits>,
  maxBodyBytes: 64 * 1024 * 1024,
  /** All request bodies held at once. */
  maxHeldBytes: Math.floor(os.totalmem() / 4),
  /** How long running requests may go on after `stop`. */
  stopTimeoutMs: 180_000,
  /** How long after `stop` it goes on serving while it says that it is not ready. */
  shutdownDelayMs: 0,
  helloTimeoutMs: 5000,
  probeTimeoutMs: 2000,
  reprobeMs: 5000,
  /** Silence after which a connection without a running request is closed. */
  idleTimeoutS: 60,
  tlsPollMs: 10_000,
  /** How long a client may take to send its body. */
  bodyTimeoutMs: 300_000,
  /** Inference requests that one client address may have running. */
  maxRequestsPerAddress: 4096,
  proxy: {} as Partial<typeof PROXY_DEFAULTS>,
  lanes: {} as Partial<LaneSettings>,
  usage: {} as Partial<UsageSettings>,
  keyLimits: KEY_LIMITER_DEFAULTS,
  /** How long an engine may take to list its models for Ollama's clients. */
  listTimeoutMs: 2000,
  /** After how long a worker is told again to restart its engine, if it shows no sign of that. */
  drainRepeatMs: 5000,
  /** How often the names of known models are brought up to date, and how old they may get. */
  knownModelsMs: 1000,
  knownModelsAgeMs: 300_000,
  /** For a worker to begin to show a log. Below the 5 s that commands wait: this answer says more. */
  logTimeoutMs: 4000,
  maxLogReaders: 64,
};
