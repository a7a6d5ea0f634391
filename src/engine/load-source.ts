/** How an engine's load is read from one of its answers: by a line scan of Prometheus' text. */

/** What an engine says about its load. What it does not say is absent, never 0. */
export interface LoadNumbers {
  /** Requests that it runs, and that wait inside it. */
  running?: number;
  waiting?: number;
  /** The share of its cache that is taken, 0 to 1. */
  kvUsage?: number;
  /** Prompt tokens that it looked up in its prefix cache since its start, and that it found. */
  prefixHitTokens?: number;
  prefixQueryTokens?: number;
}

export interface LoadReading {
  load: LoadNumbers;
  /** Some figure that moves while tokens flow; null where there is none. */
  progress: number | null;
}

export interface LoadSource {
  path: string;
  /** Whether `progress` moves with every token, not only when a request ends. Default: no. */
  isLive?: boolean;
  /** Null: the answer does not tell the load. Never throws for any text. */
  read(text: string): LoadReading | null;
}

/** Names of series, in order of preference: the first that is there counts. */
export interface SeriesNames {
  running?: readonly string[];
  waiting?: readonly string[];
  /** Either a share, ... */
  kvUsage?: readonly string[];
  /** ... or what is taken, and of how much. */
  kvUsed?: readonly string[];
  kvTotal?: readonly string[];
  prefixHitTokens?: readonly string[];
  prefixQueryTokens?: readonly string[];
  /** All that are there, added up. */
  progress?: readonly string[];
}

/**
 * A source in Prometheus' text format. Series of one name are added up (ranks, models), shares of
 * the cache are averaged. Histograms, which are nearly all of such a text, are passed over.
 */
export function prometheus(
  path: string,
  names: SeriesNames,
  facts: Pick<LoadSource, "isLive"> = {},
): LoadSource {
  return { path, ...facts, read: (text) => readSeries(text, names) };
}

function readSeries(text: string, names: SeriesNames): LoadReading | null {
  const values = (among: readonly string[] | undefined): number[] => {
    for (const name of among ?? []) {
      const found = seriesValues(text, name);
      if (found.length > 0) return found;
    }
    return [];
  };
  const sum = (among: readonly string[] | undefined) => sumOf(values(among));
  const taken = share(sum(names.kvUsed), sum(names.kvTotal));
  const load = tidyLoad({
    running: sum(names.running),
    waiting: sum(names.waiting),
    kvUsage: averageOf(values(names.kvUsage)) ?? taken,
    prefixHitTokens: sum(names.prefixHitTokens),
    prefixQueryTokens: sum(names.prefixQueryTokens),
  });
  if (load === null) return null;
  const progress = sumOf((names.progress ?? []).flatMap((name) => seriesValues(text, name)));
  return { load, progress };
}

/** The finite values of all series with this name; labels and time stamps are passed over. */
export function seriesValues(text: string, name: string): number[] {
  const found: number[] = [];
  for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + name.length)) {
    const next = text[at + name.length];
    const isOther = (at > 0 && text[at - 1] !== "\n") || (next !== "{" && next !== " ");
    if (isOther) continue;
    const end = text.indexOf("\n", at);
    const line = text.slice(at + name.length, end < 0 ? text.length : end);
    // A label may hold anything, also braces; what follows the last one is no label.
    const value = line
      .slice(line.lastIndexOf("}") + 1)
      .trim()
      .split(/\s+/)[0];
    const number = value === undefined || value === "" ? Number.NaN : Number(value);
    if (Number.isFinite(number)) found.push(number);
  }
  return found;
}

/** Figures as an engine gives them; undefined or null where it does not. */
export type RawLoad = { [name in keyof LoadNumbers]?: number | null | undefined };

/** Only what can be: finite, not negative, no more hits than queries. Null when nothing is left. */
export function tidyLoad(raw: RawLoad): LoadNumbers | null {
  const load: LoadNumbers = {};
  const take = (name: keyof LoadNumbers, max = Number.MAX_SAFE_INTEGER) => {
    const value = raw[name];
    if (typeof value !== "number" || !Number.isFinite(value) || value < 0) return;
    load[name] = Math.min(value, max);
  };
  const takeCount = (name: "running" | "waiting") => {
    take(name, MAX_COUNT);
    if (load[name] !== undefined) load[name] = Math.round(load[name]);
  };
  takeCount("running");
  takeCount("waiting");
  take("kvUsage", 1);
  take("prefixHitTokens");
  take("prefixQueryTokens");
  if ((load.prefixHitTokens ?? 0) > (load.prefixQueryTokens ?? 0)) {
    delete load.prefixHitTokens;
    delete load.prefixQueryTokens;
  }
  return Object.keys(load).length === 0 ? null : load;
}

/** What the session's messages can carry. */
const MAX_COUNT = 2 ** 32 - 1;

export function sumOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0);
}

export function averageOf(values: readonly number[]): number | null {
  const sum = sumOf(values);
  return sum === null ? null : sum / values.length;
}

function share(used: number | null, total: number | null): number | null {
  return used === null || total === null || total <= 0 ? null : used / total;
}
