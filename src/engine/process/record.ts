/** What an engine's folder keeps about its running process, for the next run of the worker. */

import { rmSync } from "node:fs";
import path from "node:path";
import { messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import type { EngineCommandLine } from "./process.ts";
import type { Environment } from "../shell-words.ts";
import { bootId, engineMarkOf, readProcess } from "./proc.ts";
import { isRecord } from "../../util/json.ts";
import { readJsonFile, writeJsonFile } from "../../util/json-file.ts";

/** The file, as it stands. */
export interface RunRecord {
  schema: 1;
  engine_id: string;
  /** The run of the worker that started or adopted it last. */
  worker_run: string;
  run: string;
  pid: number;
  /** As in ProcessEntry: with the pid and the boot id it names one process for good. */
  start_time: string;
  boot_id: string;
  command_hash: string;
  /** Which inference server it was taken for: says how long it may take to end. */
  kind: string;
  restarts: number;
  /** Where the run's output starts in the log; less may be left of it. */
  log_start: number;
  /** Where it was found to answer. */
  address: HostPort | null;
  /** It was being ended: nothing to adopt. */
  ending: boolean;
}

const FILE = "engine.json";

// Decide what an engine serves, to whom and on what hardware, where flags do not. The rest of an
// environment changes with every login.
const DECISIVE =
  /^(?:(?:CUDA|HIP|ROCR|NVIDIA)_VISIBLE_DEVICES|(?:OLLAMA|LLAMA_ARG|VLLM|SGLANG|SGL)_\w+)$/;

/**
 * The same for commands that start the same engine: words, working directory, port, and of its
 * environment what was set for it, being other than `inherited`, or configures engines anyway.
 */
export function hashCommand(
  { argv, env, cwd }: EngineCommandLine,
  { port, inherited }: { port: number | null; inherited: Environment },
): string {
  const decisive = Object.entries(env)
    .filter(([, value]) => value !== undefined)
    .filter(([name, value]) => value !== inherited[name] || DECISIVE.test(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify([argv, cwd, decisive, port]);
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

/** Null if there is none that this version understands: marks still tell what is left. */
export function readRecord(dir: string): RunRecord | null {
  const value = readJsonFile(path.join(dir, FILE));
  return isRunRecord(value) ? value : null;
}

/** The record of the run that goes on; a file that cannot be written is logged, and costs no engine. */
export interface RecordFile {
  write(record: RunRecord): void;
  /** Changes what was written or adopted last; without one it does nothing. */
  update(changes: Partial<RunRecord>): void;
  /** Nothing is left of the run. */
  remove(): void;
}

export function openRecord(dir: string, log: Log): RecordFile {
  let current: RunRecord | null = null;
  const keep = (action: () => void) => {
    try {
      action();
    } catch (error) {
      const what = "cannot write down what runs here: a later worker will not adopt it";
      log.warn(what, { dir, error: messageOf(error) });
    }
  };
  const write = (record: RunRecord) => {
    current = record;
    keep(() => writeJsonFile(path.join(dir, FILE), record));
  };
  return {
    write,
    update(changes) {
      if (current !== null) write({ ...current, ...changes });
    },
    remove() {
      current = null;
      keep(() => rmSync(path.join(dir, FILE), { force: true }));
    },
  };
}

/** Whether the recorded process still runs and is surely the one: boot, start time and mark. */
export async function isRecorded(record: RunRecord, engineId: string): Promise<boolean> {
  if (record.engine_id !== engineId || record.boot_id !== bootId()) return false;
  const entry = await readProcess(record.pid);
  if (entry === null || entry.state === "Z" || entry.startTime !== record.start_time) return false;
  return (await engineMarkOf(record.pid)) === engineId;
}

function isRunRecord(value: unknown): value is RunRecord {
  if (!isRecord(value)) return false;
  const record = value as Partial<Record<keyof RunRecord, unknown>>;
  const { address } = record;
  const texts = [record.engine_id, record.worker_run, record.run, record.start_time];
  return (
    record.schema === 1 &&
    [...texts, record.boot_id, record.command_hash, record.kind].every(isText) &&
    [record.pid, record.restarts, record.log_start].every(Number.isSafeInteger) &&
    Number(record.pid) > 1 &&
    typeof record.ending === "boolean" &&
    (address === null || isAddress(address))
  );
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isAddress(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { host, port } = value as Partial<Record<keyof HostPort, unknown>>;
  return typeof host === "string" && Number.isSafeInteger(port);
}
