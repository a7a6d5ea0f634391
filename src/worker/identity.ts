/** A worker's place on its machine: a folder with a lock, an id and a name that last. */

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { type FileLock, tryLock } from "./file-lock.ts";
import { fieldsIn } from "../util/json.ts";
import { readJsonFile, writeJsonFile } from "../util/json-file.ts";

export interface SlotOptions {
  dataDir: string;
  machineId: string;
  hostname: string;
  /** Chosen by a person, or null. */
  name: string | null;
  /** What the worker is for: the same command finds the same slot again. */
  command: readonly string[];
}

export interface Slot extends Disposable {
  /** The slot's folder, for the engine's log and state. */
  readonly dir: string;
  readonly workerId: string;
  readonly name: string;
  readonly nameChosen: boolean;
}

interface SlotFile {
  worker_id: string;
  command: readonly string[];
}

const MAX_SLOTS = 256;

/**
 * Takes the named slot, or the first free one that was used for the same command, or a new one.
 * Throws `worker_in_use` (that name runs already), `data_dir_unusable`.
 */
export function takeSlot(options: SlotOptions): Slot {
  const base = path.join(options.dataDir, "workers", safe(options.machineId));
  try {
    mkdirSync(base, { recursive: true, mode: 0o700 });
    return options.name === null ? takeAny(options, base) : takeNamed(options, base, options.name);
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    throw new LlmnodeError(
      "data_dir_unusable",
      `cannot keep the worker's identity in ${base}: ${messageOf(error)}`,
      { hints: ["choose another folder: llmnode join --data-dir DIR ..."], cause: error },
    );
  }
}

/**
 * The running worker that has the named slot, or the first one that runs for the same command.
 * Null: there is none.
 */
export function findRunning(options: SlotOptions): { pid: number; holds(): boolean } | null {
  const base = path.join(options.dataDir, "workers", safe(options.machineId));
  const folders =
    options.name === null
      ? slotNumbers(base).map((number) => `slot-${number}`)
      : [`name-${safe(options.name)}`];
  for (const folder of folders) {
    const dir = path.join(base, folder);
    if (!isFor(readSlotFile(dir), options.command)) continue;
    const file = path.join(dir, "lock");
    if (!isLocked(file)) continue;
    const pid = holderOf(file);
    if (!Number.isSafeInteger(pid) || pid <= 1 || !hasOpen(pid, file)) continue;
    // A process that ends loses its list of files before its locks: the lock has the last word.
    return { pid, holds: () => isLocked(file) && holderOf(file) === pid };
  }
  return null;
}

function isLocked(file: string): boolean {
  const lock = tryLock(file);
  lock?.[Symbol.dispose]();
  return lock === null;
}

function holderOf(file: string): number {
  return Number(readText(file).trim());
}

/** Whether a process has a file open, where that can be seen; the number may be an old one. */
function hasOpen(pid: number, file: string): boolean {
  if (process.platform !== "linux") return true;
  const folder = `/proc/${pid}/fd`;
  try {
    const wanted = statSync(file);
    return readdirSync(folder).some((name) => {
      const open = statSync(path.join(folder, name), { throwIfNoEntry: false });
      return open?.ino === wanted.ino && open.dev === wanted.dev;
    });
  } catch {
    // Gone meanwhile, or another user's: then it could not be asked either.
    return false;
  }
}

function slotNumbers(base: string): number[] {
  if (!existsSync(base)) return [];
  return readdirSync(base)
    .flatMap((entry) => /^slot-(\d+)$/.exec(entry)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

function takeNamed(options: SlotOptions, base: string, name: string): Slot {
  const dir = path.join(base, `name-${safe(name)}`);
  const slot = occupy(dir, { name, nameChosen: true, command: options.command });
  if (slot) return slot;
  const pid = readText(path.join(dir, "lock")).trim();
  throw new LlmnodeError(
    "worker_in_use",
    `a worker named ${name} already runs on this machine${pid ? ` (pid ${pid})` : ""}`,
    {
      hints: [
        "choose another --name, or leave it out",
        "to adopt its running engine: --adopt-running",
      ],
    },
  );
}

function takeAny(options: SlotOptions, base: string): Slot {
  const { command } = options;
  const nameOf = (number: number) =>
    number === 1 ? hostName(options.hostname) : `${hostName(options.hostname)}-${number}`;
  for (const number of slotNumbers(base)) {
    const dir = path.join(base, `slot-${number}`);
    if (!isFor(readSlotFile(dir), command)) continue;
    const slot = occupy(dir, { name: nameOf(number), nameChosen: false, command });
    if (slot) return slot;
  }
  for (let number = 1; number <= MAX_SLOTS; number += 1) {
    const dir = path.join(base, `slot-${number}`);
    if (readSlotFile(dir) !== null) continue;
    const slot = occupy(dir, { name: nameOf(number), nameChosen: false, command });
    if (slot) return slot;
  }
  throw new LlmnodeError("data_dir_unusable", `all ${MAX_SLOTS} worker slots in ${base} are used`, {
    hints: ["remove the folders of workers that you no longer need"],
  });
}

/** Locks a slot and makes it ours; null when it is taken or turned out to be for another command. */
function occupy(
  dir: string,
  wanted: { name: string; nameChosen: boolean; command: readonly string[] },
): Slot | null {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const lock: FileLock | null = tryLock(path.join(dir, "lock"));
  if (!lock) return null;
  try {
    const known = readSlotFile(dir);
    // Between our look and our lock another `join` may have made this slot its own and ended.
    if (!wanted.nameChosen && known !== null && !isFor(known, wanted.command)) {
      lock[Symbol.dispose]();
      return null;
    }
    writeFileSync(path.join(dir, "lock"), `${process.pid}\n`);
    const workerId = known?.worker_id ?? crypto.randomUUID().replaceAll("-", "").slice(0, 16);
    const content: SlotFile = { worker_id: workerId, command: wanted.command };
    writeJsonFile(path.join(dir, "slot.json"), content);
    return {
      dir,
      workerId,
      name: wanted.name,
      nameChosen: wanted.nameChosen,
      [Symbol.dispose]: () => lock[Symbol.dispose](),
    };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

function readSlotFile(dir: string): SlotFile | null {
  // Missing, or cut off by a full disk: the slot is as good as new.
  const { worker_id, command } = fieldsIn(readJsonFile(path.join(dir, "slot.json")));
  if (typeof worker_id !== "string" || !/^[0-9a-z-]{8,64}$/.test(worker_id)) return null;
  return Array.isArray(command) ? { worker_id, command: command.map(String) } : null;
}

function isFor(file: SlotFile | null, command: readonly string[]): boolean {
  return file !== null && JSON.stringify(file.command) === JSON.stringify(command);
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** The first label of the host name, as a worker's name may be written. */
function hostName(hostname: string): string {
  const label = safe(hostname.split(".", 1)[0] ?? "").slice(0, 48);
  const trimmed = label.replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "");
  return trimmed === "" ? "worker" : trimmed;
}

function safe(text: string): string {
  return text.replace(/[^A-Za-z0-9._-]/g, "-");
}
