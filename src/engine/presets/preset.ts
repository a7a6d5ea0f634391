/** What the supervisor must know about one kind of engine; each kind has a file in this folder. */

import type { LoadSource } from "../load-source.ts";
import type { Environment } from "../shell-words.ts";
import type { EngineKind, EngineModel } from "../status.ts";

/** A command without its wrappers. */
export interface EngineCommand {
  /** The program's file name, or the Python module of `python -m`. */
  program: string;
  args: readonly string[];
}

/** What a command says; see ArgvFacts. */
export interface CommandFacts {
  port: number | null;
  host: string | null;
  https: boolean;
  models: string[];
  apiKey: string | null;
  /** The file that holds it, where it is not in the command itself. */
  apiKeyFile: string | null;
  /** GPUs that its flags ask for; null where they do not tell: some engines take all they see. */
  gpusWanted: number | null;
  /** Requests that it should have at once; null where the command does not tell. */
  maxInFlight: number | null;
  /** In tokens, for engines whose model list does not tell. */
  maxModelLen: number | null;
  /** How long it was told to let requests end after SIGTERM, with room; null: by kind. */
  stopTimeoutMs: number | null;
  /** Why no HTTP request can reach what this command starts; null for all but a few. */
  noHttp: string | null;
}

/** What a command says that says nothing. */
export const NO_FACTS: CommandFacts = {
  port: null,
  host: null,
  https: false,
  models: [],
  apiKey: null,
  apiKeyFile: null,
  gpusWanted: null,
  maxInFlight: null,
  maxModelLen: null,
  stopTimeoutMs: null,
  noHttp: null,
};

export interface EngineImage {
  /** Matches the name without registry and tag, for example `vllm/vllm-openai`. */
  name: RegExp;
  /** Matches the tags that run this engine; any does by default. */
  tag?: RegExp;
  /** The words that it puts before what follows the image; empty: a whole command follows. */
  entrypoint: readonly string[];
  /** What follows the image when nothing does. */
  command?: readonly string[];
  /** Variables that it sets and the preset reads. */
  env?: Environment;
}

/** The JSON at a path. Throws LlmnodeError unless it answers 2xx with JSON. */
export type Ask = (path: string) => Promise<unknown>;

export interface EnginePreset {
  kind: EngineKind;
  /** The engine's own arguments, if this command starts it; else null. */
  match(command: EngineCommand): readonly string[] | null;
  /** What differs from NO_FACTS. */
  argvFacts(args: readonly string[], env: Environment): Partial<CommandFacts>;
  /** Where it listens unless told otherwise; null: there is no usual port. */
  defaultPort: number | null;
  /** The address that it listens on unless told otherwise; null: all of them. */
  defaultHost: string | null;
  /** The flag that names a YAML file with more flags, those of the command line winning. */
  configFlag?: string;
  image?: EngineImage;
  healthPath: string;
  /** What is wrong although `healthPath` answered 2xx, read from its body; null: nothing. */
  unwell?(body: unknown): string | null;
  models(ask: Ask): Promise<EngineModel[]>;
  /** Whether it is ready only when it serves a model. */
  needsModels: boolean;
  /** Requests that it should have at once, as it says itself when it is ready. */
  capacity?(ask: Ask): Promise<number | null>;
  /** The same where neither it nor its command tells; null: the default of all engines. */
  maxInFlight: number | null;
  /** Whether it refuses requests for a `Host` other than its own address. */
  wantsOwnHost: boolean;
  /** Where its load is read, best first; empty: it does not tell. */
  load: readonly LoadSource[];
  /** The same where reading it takes the figures away from other readers: only if asked for. */
  destructiveLoad?: LoadSource;
  /** What its user can do when none of them answers. */
  loadHint?: string;
  probeTimeoutMs: number;
  /** How long it may take from SIGTERM to its end. */
  stopTimeoutMs: number;
}

/** What most engines share; the figures are generous for what the engines were seen to need. */
export const COMMON = {
  defaultHost: null,
  healthPath: "/health",
  needsModels: true,
  maxInFlight: null,
  wantsOwnHost: false,
  load: [],
  probeTimeoutMs: 5_000,
  stopTimeoutMs: 15_000,
};

/** For engines with a queue of their own: a quarter more, so that no slot waits for the head. */
export function withQueue(running: number | null): number | null {
  return running === null || running === 0 ? null : Math.ceil(running * 1.25);
}
