/** Reads how busy an engine is, by its own word, again and again while it runs. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import { engineClient, throwUnlessOk } from "./engine-client.ts";
import type { LoadNumbers, LoadReading, LoadSource } from "../load-source.ts";
import { PRESETS } from "../presets/all.ts";
import type { EngineKind, EngineStatus } from "../status.ts";
import type { EngineState } from "../../protocol/engine-report.ts";

export const LOAD_DEFAULTS = {
  /** Between two readings, twice as long while nothing runs inside the engine, ... */
  everyMs: 1_000,
  /** ... and while requests wait inside the engine. */
  busyMs: 250,
  /** Longest wait for one answer. */
  timeoutMs: 2_000,
  /** Readings that must fail in a row before other sources are tried. */
  failuresUntilOther: 5,
  /** Between two tries while no source answers. */
  retryMs: 30_000,
  /** Larger answers are not read. */
  maxBytes: 2 * 1024 * 1024,
  /** Whether sources may be read that empty themselves by it (TensorRT-LLM's `/metrics`). */
  destructive: false,
};

export type LoadSettings = typeof LOAD_DEFAULTS;

export interface LoadSample {
  load: LoadNumbers;
  /** A figure that moves with every token; null where there is none. */
  flow: number | null;
  /** Since it was asked for. */
  ageMs: number;
}

export interface LoadReader extends AsyncDisposable {
  /** Null: not known, or known of an earlier run only. */
  latest(): LoadSample | null;
  /** How long ago a figure was seen to move that moves while tokens flow; null: never. */
  flowAgeMs(): number | null;
}

export interface LoadReaderOptions {
  /** Asked before each reading: nothing is read unless it runs. */
  status: () => Pick<EngineStatus, "state" | "kind" | "run" | "url">;
  apiKey: string | null;
  log: Log;
  settings?: Partial<LoadSettings>;
}

/** In these states there is a process that may answer. */
const RUNNING: ReadonlySet<EngineState> = new Set(["ready", "suspect", "unhealthy"]);

/** What is known of one run of an engine. */
interface Known {
  key: string;
  kind: EngineKind;
  /** Without a path. */
  url: string;
  sources: readonly LoadSource[];
  /** The one that answers; null while none is known to. */
  source: LoadSource | null;
  failures: number;
  retryAt: number;
  alreadyLogged: boolean;
  sample: (Omit<LoadSample, "ageMs"> & { at: number }) | null;
  progress: number | null;
  flowedAt: number | null;
}

/** One reading at a time. Ends when it is disposed of. */
export function startLoadReader(options: LoadReaderOptions): LoadReader {
  const settings = { ...LOAD_DEFAULTS, ...options.settings };
  const ending = new AbortController();
  const { signal } = ending;
  let known: Known | null = null;

  // What has ended or started again since the last reading has no load that is known.
  const current = (): Known | null => {
    const { state, kind, run, url } = options.status();
    if (url === null || !RUNNING.has(state)) return null;
    const key = `${kind} ${run ?? ""} ${url}`;
    return known?.key === key ? known : newlyKnown({ key, kind, url }, settings);
  };
  const loop = async () => {
    while (!signal.aborted) {
      known = current();
      if (known !== null) await read(known, { ...options, settings, signal });
      await sleep(pauseMs(known?.sample?.load ?? null, settings), signal);
    }
  };
  const done = loop().catch((error: unknown) => {
    // A bug: the engine is still served without it.
    options.log.error(`reading the engine's load: ${messageOf(error)}`);
  });
  const now = () => (current() === known ? known : null);

  return {
    latest() {
      const sample = now()?.sample ?? null;
      if (sample === null) return null;
      const { load, flow, at } = sample;
      return { load, flow, ageMs: performance.now() - at };
    },
    flowAgeMs() {
      const at = now()?.flowedAt ?? null;
      return at === null ? null : performance.now() - at;
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await done;
    },
  };
}

function pauseMs(load: LoadNumbers | null, { everyMs, busyMs }: LoadSettings): number {
  if ((load?.waiting ?? 0) > 0) return busyMs;
  // What the head sends there it counts itself, at once.
  return load?.running === 0 ? 2 * everyMs : everyMs;
}

function newlyKnown(engine: Pick<Known, "key" | "kind" | "url">, settings: LoadSettings): Known {
  const { load, destructiveLoad } = PRESETS[engine.kind];
  const sources = settings.destructive && destructiveLoad ? [...load, destructiveLoad] : load;
  return {
    ...engine,
    sources,
    source: null,
    failures: 0,
    retryAt: 0,
    alreadyLogged: false,
    sample: null,
    progress: null,
    flowedAt: null,
  };
}

interface Reading {
  settings: LoadSettings;
  apiKey: string | null;
  log: Log;
  signal: AbortSignal;
}

async function read(known: Known, reading: Reading): Promise<void> {
  if (known.source === null && performance.now() < known.retryAt) return;
  const tried = known.source === null ? known.sources : [known.source];
  let why = "";
  for (const source of tried) {
    const at = performance.now();
    const answer = await ask(source, known.url, reading);
    if (reading.signal.aborted) return;
    if (typeof answer !== "string") {
      known.source = source;
      known.failures = 0;
      take(known, answer, at);
      return;
    }
    why ||= answer;
  }
  known.failures += 1;
  const { failuresUntilOther, retryMs } = reading.settings;
  if (known.source !== null && known.failures < failuresUntilOther) return;
  known.source = null;
  known.retryAt = performance.now() + retryMs;
  if (known.alreadyLogged || why === "") return;
  known.alreadyLogged = true;
  const hint = PRESETS[known.kind].loadHint;
  reading.log.info(`the engine's load is not known: ${why}`, { hint });
}

/** What the source says, or in words why it says nothing. */
async function ask(
  source: LoadSource,
  url: string,
  { settings, apiKey, signal }: Reading,
): Promise<LoadReading | string> {
  const { timeoutMs, maxBytes: answerMaxBytes } = settings;
  try {
    const client = engineClient({ url, apiKey, timeoutMs, answerMaxBytes, signal, keep: true });
    const answer = await client.get(source.path);
    throwUnlessOk(source.path, answer);
    return source.read(answer.text) ?? `GET ${source.path} holds no figure of it`;
  } catch (error) {
    if (error instanceof LlmnodeError) return error.message;
    throw error;
  }
}

function take(known: Known, { load, progress }: LoadReading, at: number): void {
  known.sample = { load, flow: known.source?.isLive ? progress : null, at };
  if (progress === null) return;
  if (known.progress !== null && progress !== known.progress) known.flowedAt = at;
  known.progress = progress;
}
