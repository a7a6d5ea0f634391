/** The names that a head knows, for completion: asked for briefly and remembered for seconds. */

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { HeadClient } from "../client/api.ts";
import { readRequests, readStatus } from "../client/head-json.ts";
import { shellWord } from "../base/shell-word.ts";
import type { Candidate, LiveKind } from "./complete.ts";
import { fieldsIn, list, number, text } from "../../util/json.ts";
import type { Environment } from "../base/options.ts";

/** Somebody waits at a prompt. */
export const ASK_MS = 300;
const KEEP_MS = 5000;
/** More than this nobody looks through. */
const MAX_NAMES = 2000;

type Names = Partial<Record<LiveKind, Candidate[]>>;

export interface NamesOptions {
  client: HeadClient;
  /** Where answers are remembered; null: nowhere. */
  cacheDir: string | null;
  /** Milliseconds since 1970. */
  now: number;
}

/** Never throws: without an answer there are no names. */
export async function liveNames(kind: LiveKind, options: NamesOptions): Promise<Candidate[]> {
  const { client, cacheDir, now } = options;
  const about = kind === "requests" ? "requests" : "cluster";
  const digest = new Bun.CryptoHasher("sha256").update(`${client.url} ${client.credential ?? ""}`);
  const file =
    cacheDir === null ? null : join(cacheDir, `${about}-${digest.digest("hex").slice(0, 16)}.json`);
  const kept = file === null ? null : readKept(file, now);
  if (kept !== null) return kept[kind] ?? [];
  try {
    const names = kind === "requests" ? await askRequests(client) : await askCluster(client);
    if (file !== null && cacheDir !== null) keep(file, cacheDir, { at: now, names });
    return names[kind] ?? [];
  } catch {
    return []; // whatever it is, a prompt is no place to hear of it
  }
}

/** `$XDG_CACHE_HOME/llmnode` or `~/.cache/llmnode`; null without a home. */
export function cacheDirectory(env: Environment): string | null {
  const cache = env["XDG_CACHE_HOME"] ?? "";
  if (isAbsolute(cache)) return join(cache, "llmnode");
  const home = env["HOME"] || homedir();
  return isAbsolute(home) ? join(home, ".cache", "llmnode") : null;
}

async function askCluster(client: HeadClient): Promise<Names> {
  const { workers, models } = await readStatus(client);
  const engines = workers.flatMap((worker) => worker.engines);
  return {
    workers: usable(workers, ({ name, state }) => [name, state]),
    models: usable(models, ({ name, ready, replicas }) => [name, `${ready} of ${replicas} ready`]),
    engines: usable(engines, (row) => [row.name, row.models.join(", ")]),
  };
}

async function askRequests(client: HeadClient): Promise<Names> {
  const words = new URLSearchParams({ limit: String(MAX_NAMES) });
  const { requests } = await readRequests(client, words);
  return { requests: usable(requests, ({ id, model, phase }) => [id, `${phase} ${model ?? ""}`]) };
}

/**
 * Names as they stand on a command line. Engines choose the names of models: one that a shell would
 * make something else of is not offered.
 */
function usable<R>(
  rows: readonly R[],
  read: (row: R) => [name: string | null, note: string | null],
): Candidate[] {
  return rows
    .map(read)
    .flatMap(([value, note]) => (value === null ? [] : [{ value, note: note ?? "" }]))
    .filter(({ value }) => shellWord(value) === value && !value.startsWith("-"))
    .slice(0, MAX_NAMES);
}

function readKept(file: string, now: number): Names | null {
  try {
    const { at, names } = fieldsIn(JSON.parse(readFileSync(file, "utf8")));
    const age = now - (number(at) ?? 0);
    if (age < 0 || age >= KEEP_MS) return null;
    const kept = fieldsIn(names);
    const read = (kind: LiveKind) =>
      usable(list(kept[kind]), ({ value, note }) => [text(value), text(note)]);
    return {
      workers: read("workers"),
      models: read("models"),
      engines: read("engines"),
      requests: read("requests"),
    };
  } catch {
    return null; // there is none, or it is half written
  }
}

function keep(file: string, dir: string, content: { at: number; names: Names }): void {
  const draft = `${file}.${process.pid}`;
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    try {
      writeFileSync(draft, JSON.stringify(content), { mode: 0o600 });
      renameSync(draft, file);
    } finally {
      rmSync(draft, { force: true });
    }
  } catch {
    return; // a full disk, or no place to write to: then the next one asks again
  }
}
