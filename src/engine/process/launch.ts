/** How an engine's program comes to run, and what the supervisor has of it then. */

import type { HostPort } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import {
  adoptProcess,
  type ContainerEnd,
  type EngineCommandLine,
  type EngineExit,
  type EngineProcess,
  findProgram,
  spawnEngine,
} from "./process.ts";
import type { ProcessEntry } from "./proc.ts";
import { type ProcessTree, trackTree } from "./process-tree.ts";
import { isRecorded, type RunRecord } from "./record.ts";
import type { EnginePhase, EngineProgress } from "../state.ts";

/** What is to be started, adopted or removed. */
export interface LaunchContext {
  command: EngineCommandLine;
  /** Marks what belongs to this engine (`LLMNODE_ENGINE_ID`, labels); unique on the machine. */
  engineId: string;
  /** Names the command and what else decides what runs: the same hash may be adopted. */
  commandHash: string;
  dir: string;
  /** Between two polls whether a process that is no child of ours still runs. */
  adoptedPollMs: number;
  log: Log;
  /** Takes the name or short id of the container once it is known, where there is one. */
  onContainer?: (container: string) => void;
}

export interface StartContext extends LaunchContext {
  /** Open for appending: takes what the engine prints. Closed by the caller after the start. */
  logFd: number;
}

/** Something that runs, started here or before. */
export interface Launched {
  process: EngineProcess;
  tree: ProcessTree;
  /** What it begins with, where that is not the start of its program. Default: `spawn`. */
  firstPhase?: EnginePhase;
  /** What a line tells of the start, beside what the engines' own lines tell. */
  readProgress?: (line: string) => EngineProgress | null;
  /** Where it may answer, most likely first; asked repeatedly. Default: from the command. */
  addresses?: () => Promise<HostPort[]>;
  /** Ends what goes with it on this side, and leaves it running. Default: there is nothing. */
  release?: () => void;
  /** What runs in its containers, as far as this machine sees it. Default: it has none. */
  container?: () => Promise<{ isPaused: boolean; processes: ProcessEntry[] }>;
  /** Finds out, after the process has exited, what its exit alone does not tell. */
  explainExit?: (exit: EngineExit) => Promise<ContainerEnd | null>;
}

export interface Launcher {
  /** Throws `engine_not_found`, `engine_not_executable` or `usage`; then nothing runs. */
  start(context: StartContext): Promise<Launched>;
  /** Null: what the record names does not run any more, or is not surely the same. */
  adopt(context: LaunchContext, record: RunRecord): Promise<Launched | null>;
  /**
   * Ends what is left of earlier runs beside processes that carry the mark, such as containers;
   * says what, each in a few words. Called before a start, when nothing was adopted.
   */
  removeLeftovers?(context: LaunchContext): Promise<string[]>;
}

/** A program of this machine, in a session of its own. */
export const bareLauncher: Launcher = {
  async start({ command, engineId, logFd }) {
    const program = await findProgram(command);
    const child = spawnEngine(command, program, { engineId, logFd });
    return { process: child, tree: trackTree(child, engineId) };
  },
  async adopt({ engineId, adoptedPollMs }, record) {
    if (!(await isRecorded(record, engineId))) return null;
    const found = adoptProcess(record, adoptedPollMs);
    return { process: found, tree: trackTree(found, engineId) };
  },
};
