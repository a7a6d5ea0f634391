/** What a worker runs or watches as its engine, as its user said it: the same from `join` to the run. */

import type { Environment } from "./shell-words.ts";

/** Which ends that nobody asked for are followed by a new start; "on-failure": not exit code 0. */
export type RestartMode = "always" | "on-failure" | "no";

/** How the engine is run; null and what is left out: the default. */
export interface EngineRules {
  /** The engine's port; it beats every other source. Not for an attached engine. */
  port?: number | null;
  /** The environment to start from. Default: this process's own. */
  env?: Environment;
  /** The engine's working directory. Default: this process's own. */
  cwd?: string | null;
  /** The GPUs that the engine may use: `0,1` or UUIDs; see `pinGpus`. Default: its command says. */
  gpus?: string | null;
  /** Default: "always". */
  restart?: RestartMode;
  /**
   * Whether an engine that an earlier run of this worker left running with the same command is
   * adopted. If not, it is ended before the start, like one with another command. Default: yes.
   */
  adopt?: boolean;
  /** How long its start may go without any progress; 0: for ever. Default: as the settings say. */
  startTimeoutMs?: number | null;
  /** Requests that the engine should have at once. Default: as it, its command or its kind says. */
  maxInFlight?: number | null;
  /**
   * The path that answers 2xx when the engine is well; with it a server that is no known engine
   * need not list models. Default: by kind.
   */
  healthPath?: string | null;
  /** The name under which it is offered as a plain HTTP server; its models are not asked for then. */
  service?: string | null;
  /** Replaces an `argv[0]` of `llmnode` that is not on the PATH. */
  selfCommand?: readonly string[];
}

/** A command to run, passed on untouched and never through a shell, or the URL of an engine. */
export type EngineTarget = { argv: readonly string[] } | { attach: string };

export type EngineSpec = EngineTarget & EngineRules;

/** With every default filled in. */
export type CompleteRules = Required<EngineRules> & { cwd: string };

export const RULE_DEFAULTS = {
  port: null,
  gpus: null,
  restart: "always",
  adopt: true,
  startTimeoutMs: null,
  maxInFlight: null,
  healthPath: null,
  service: null,
  selfCommand: [],
} satisfies EngineRules;
