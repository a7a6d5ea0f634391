/** What a worker is started with, and its limits. */

import type { SupervisorSettings } from "../engine/supervisor.ts";
import type { HostPort } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import type { LinkSettings } from "./link.ts";

export interface WorkerOptions {
  /** The head's session port. */
  head: HostPort;
  /** For a head with `--insecure`: nothing is encrypted, and whoever answers is believed. */
  insecure: boolean;
  /** A whole join token; null: the one of the head beside this worker, or its own credential. */
  joinToken: string | null;
  name: string | null;
  labels: Record<string, string>;
  engine: { argv: string[] } | { attach: string };
  /** How requests reach the engine: over connections of the worker's own, or the head's. */
  data: "auto" | "direct" | "lane";
  /** The engine's port, where its command does not tell. */
  port: number | null;
  /** A URL by which the head reaches the engine. */
  advertise: string | null;
  dataDir: string;
  version: string;
  log: Log;
  /** Takes each line that the engine prints. */
  printLine: (line: string) => void;
  env: Record<string, string | undefined>;
  /** How to start this very program, for an engine command of `llmnode ...`. */
  selfCommand: string[];
  settings?: Partial<WorkerSettings>;
}

export interface WorkerSettings {
  link: Partial<LinkSettings>;
  supervisor: Partial<SupervisorSettings>;
  /** Lanes that may be open at once, whatever the head asks for. */
  maxLanes: number;
  /** How long running requests may go on after `stop`. */
  drainTimeoutMs: number;
  /** How long `stop` waits for a head that is away, to learn what still runs. */
  drainWithoutHeadMs: number;
  /** Between two looks at the requests that still run. */
  drainPollMs: number;
}

export const WORKER_DEFAULTS: WorkerSettings = {
  link: {},
  supervisor: {},
  maxLanes: 512,
  drainTimeoutMs: 30_000,
  drainWithoutHeadMs: 5000,
  drainPollMs: 100,
};
