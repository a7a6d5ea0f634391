/** What a head is started with, and its limits. */

import os from "node:os";
import type { RouteSettings } from "../cluster/routing/policies.ts";
import type { ClusterLimits } from "../cluster/state/limits.ts";
import { KEY_LIMITER_DEFAULTS, type KeyLimiterOptions } from "../cluster/quota/key.ts";
import { PROXY_DEFAULTS } from "../proxy/proxy.ts";
import type { HostPort } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import type { AccessMode } from "./access/modes.ts";
import type { PublicPart } from "./http/route-table.ts";
import type { TlsFiles } from "./api/client-tls.ts";
import type { LaneSettings } from "./transport/lane-pool.ts";
import type { RequestLogOptions } from "./metrics/request-log.ts";
import type { UsageSettings } from "./quota/usage.ts";

export interface HeadOptions {
  /** For clients. */
  listen: HostPort;
  /** The certificate and key by which clients are served; plain HTTP by default. */
  tls?: TlsFiles | null;
  /** For workers. */
  sessionListen: HostPort;
  /** Turns TLS off for the link to workers; join tokens and credentials count all the same. */
  insecure: boolean;
  /** For the lanes of workers. Default: any port at the address for their sessions. */
  laneListen?: HostPort;
  /** The data directory; the head's folder in it is for one head at a time. */
  dataDir: string;
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
  /** Who may use models; `auto` by default. */
  access?: AccessMode;
  /** What is shown to everyone; nothing by default. */
  public?: Partial<Record<PublicPart, boolean>>;
  /** Addresses and ranges of proxies whose `x-forwarded-for` counts. */
  trustedProxies?: readonly string[];
  /** A port of its own for what operators ask; then it is not answered where clients are. */
  adminListen?: HostPort | null;
  version: string;
  log: Log;
  settings?: Partial<HeadSettings>;
}

export interface HeadSettings {
  cluster: Partial<ClusterLimits>;
  /** The largest request body, in bytes. */
  maxBodyBytes: number;
  /** All request bodies held at once, in bytes. Default: a quarter of the machine's memory. */
  maxHeldBytes: number;
  /** How long running requests may go on after `stop`. */
  stopTimeoutMs: number;
  /** How long after `stop` it goes on serving while it says that it is not ready. */
  shutdownDelayMs: number;
  helloTimeoutMs: number;
  probeTimeoutMs: number;
  reprobeMs: number;
  /** Silence after which a connection without a running request is closed, in seconds. */
  idleTimeoutS: number;
  /** How often the files of `tls` are looked at for a change. */
  tlsPollMs: number;
  /** How long a client may take to send its body. */
  bodyTimeoutMs: number;
  /** Inference requests that one client address may have running. */
  maxRequestsPerAddress: number;
  /** The attempt loop, the relay and their times. */
  proxy: Partial<typeof PROXY_DEFAULTS>;
  lanes: Partial<LaneSettings>;
  /** What keys have used, and how soon it is written. */
  usage: Partial<UsageSettings>;
  /** How a minute's limits are held to. */
  keyLimits: KeyLimiterOptions;
  /** How long an engine may take to list its models for Ollama's clients. */
  listTimeoutMs: number;
  /** After how long a worker is told again to restart its engine, if it shows no sign of that. */
  drainRepeatMs: number;
  /** How often the names of known models are brought up to date, and how old they may get. */
  knownModelsMs: number;
  knownModelsAgeMs: number;
  /** How long a worker may take to begin to show its engine's log. */
  logTimeoutMs: number;
  /** Engines' logs that may be read at once. */
  maxLogReaders: number;
}

export const HEAD_DEFAULTS: HeadSettings = {
  cluster: {},
  maxBodyBytes: 64 * 1024 * 1024,
  maxHeldBytes: Math.floor(os.totalmem() / 4),
  stopTimeoutMs: 180_000,
  shutdownDelayMs: 0,
  helloTimeoutMs: 5000,
  probeTimeoutMs: 2000,
  reprobeMs: 5000,
  idleTimeoutS: 60,
  tlsPollMs: 10_000,
  bodyTimeoutMs: 300_000,
  maxRequestsPerAddress: 4096,
  proxy: {},
  lanes: {},
  usage: {},
  keyLimits: KEY_LIMITER_DEFAULTS,
  listTimeoutMs: 2000,
  drainRepeatMs: 5000,
  knownModelsMs: 1000,
  knownModelsAgeMs: 300_000,
  // Below the 5 s that commands wait for an answer: this one says more.
  logTimeoutMs: 4000,
  maxLogReaders: 64,
};
