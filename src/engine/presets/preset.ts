/** What the supervisor must know about one kind of engine; each kind has a file in this folder. */

import type { Environment } from "../shell-words.ts";
import type { EngineKind, EngineModel } from "../status.ts";

/** A command without its wrappers. */
export interface EngineCommand {
  /** The program's file name, or the Python module of `python -m`. */
  program: string;
  args: readonly string[];
}

/** What a command says; see EngineHints. */
export interface CommandHints {
  port: number | null;
  host: string | null;
  https: boolean;
  models: string[];
  apiKey: string | null;
}

/**
 * Asks the engine for the JSON at a path. Throws ProbeFailure unless it answers 2xx with JSON.
 */
export type Ask = (path: string) => Promise<unknown>;

export interface EnginePreset {
  kind: EngineKind;
  /** The engine's own arguments, if this command starts it; else null. */
  match(command: EngineCommand): readonly string[] | null;
  hints(args: readonly string[], env: Environment): CommandHints;
  /** Where it listens unless told otherwise; null: there is no usual port. */
  defaultPort: number | null;
  healthPath: string;
  /** What is wrong although `healthPath` answered 2xx, read from its body; null: nothing. */
  unwell?(body: unknown): string | null;
  models(ask: Ask): Promise<EngineModel[]>;
  /** Whether it is ready only when it serves a model. */
  needsModels: boolean;
  /** Longest wait for an answer. */
  probeTimeoutMs: number;
  /** How long it may take from SIGTERM to its end. */
  stopTimeoutMs: number;
}

/** What most engines share; the figures are generous for what the engines were seen to need. */
export const COMMON = {
  healthPath: "/health",
  needsModels: true,
  probeTimeoutMs: 5_000,
  stopTimeoutMs: 15_000,
};
