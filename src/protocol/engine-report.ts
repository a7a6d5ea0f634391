/** What a worker reports of an engine: every field once, with its wire form, its limits and its name in JSON. */

import { cleanLine } from "../util/text.ts";
import { isServiceName } from "./replica-request.ts";

// A new field is an entry here and one in `proto/llmnode.proto`; what the engine's side knows by that
// name is then sent, checked, kept and shown.

/** Also the words of the JSON. */
const STATES = [
  "starting",
  "ready",
  "suspect",
  "unhealthy",
  "stopping",
  "backoff",
  "failed",
  "stopped",
] as const;
export type EngineState = (typeof STATES)[number];

/** How values of one kind travel. `now` is the clock of the side that calls. */
interface Kind<V, W, S = V> {
  /** What holds while nothing is known. */
  unknown: V;
  /** Whatever a worker sends becomes a sound value. */
  read(wire: W, now: number): V;
  write(value: V, now: number): W;
  show(value: V, now: number): S;
}

interface Fact<V, W, S, J extends string | null, N extends string | null> extends Kind<V, W, S> {
  /** Its name in the rows of engines; null: it is not shown. */
  json: J;
  /** Its name on the wire, where that is another one. */
  wire: N;
}

function fact<V, W, S, const J extends string | null, const N extends string | null = null>(
  kind: Kind<V, W, S>,
  json: J,
  wire?: N,
): Fact<V, W, S, J, N> {
  return { ...kind, json, wire: (wire ?? null) as N };
}

const same = <V>(value: V): V => value;
const sound = (value: number) => (Number.isFinite(value) ? Math.max(0, value) : 0);
const since = (at: number, now: number) => Math.max(0, now - at);

/** Shown as it is, cut at `max` characters. */
const line = (max: number): Kind<string, string> => ({
  unknown: "",
  read: (wire) => cleanLine(wire, max),
  write: same,
  show: same,
});

/** The same, null where it says nothing. */
const words = (max: number): Kind<string | null, string> => ({
  unknown: null,
  read: (wire) => cleanLine(wire, max) || null,
  write: (value) => value ?? "",
  show: same,
});

/** A text that is used as it is: a wrong or long one counts as none. */
const exact = (isSound: (text: string) => boolean): Kind<string | null, string> => ({
  unknown: null,
  read: (wire) => (wire !== "" && isSound(wire) ? wire : null),
  write: (value) => value ?? "",
  show: same,
});

const atMost = (max: number) => (text: string) => text.length <= max;

const lines = (
  read: (wire: readonly string[]) => readonly string[],
  write: (value: readonly string[]) => readonly string[],
): Kind<readonly string[], readonly string[]> => ({ unknown: [], read, write, show: same });

/** Zero is no number. */
const ordinal = (max: number): Kind<number | null, number> => ({
  unknown: null,
  read: (wire) => (wire > 0 && wire <= max ? wire : null),
  write: (value) => value ?? 0,
  show: same,
});

const RUN: Kind<string, string> = {
  unknown: "",
  read: (wire) => (wire.length <= 512 ? wire : ""),
  write: same,
  show: same,
};

const COUNT: Kind<number, number> = { unknown: 0, read: sound, write: same, show: same };
const FLAG: Kind<boolean, boolean> = { unknown: false, read: same, write: same, show: same };

function optional<V>(): Kind<V | null, V | undefined> {
  return {
    unknown: null,
    read: (wire) => wire ?? null,
    write: (value) => value ?? undefined,
    show: same,
  };
}

/** An instant: an age on the wire and in JSON, as clocks differ. */
const INSTANT: Kind<number, number> = {
  unknown: 0,
  read: (age, now) => now - sound(age),
  write: since,
  show: (at, now) => Math.round(since(at, now)),
};

const MAYBE_INSTANT: Kind<number | null, number> = {
  unknown: null,
  read: INSTANT.read,
  write: (at, now) => (at === null ? 0 : since(at, now)),
  show: (at, now) => (at === null ? null : INSTANT.show(at, now)),
};

const STATE: Kind<EngineState, WireEngineState | number> = {
  unknown: "starting",
  // A state that a newer worker has and this head does not know takes no requests.
  read: (wire) => STATES.find((state) => state.toUpperCase() === wire) ?? "unhealthy",
  write: (state) => state.toUpperCase() as Uppercase<EngineState>,
  show: same,
};

export type WireEngineState = Uppercase<EngineState> | "ENGINE_STATE_UNKNOWN";

const UINT32 = 2 ** 32 - 1;
const MAX_GPUS = 64;
const MAX_EVIDENCE = 8;
const MAX_EXPECTED = 32;
const MAX_EXPECTED_BYTES = 4 * 1024;

export const ENGINE_FACTS = {
  /** Random id of this start of the engine; empty while none runs. */
  run: fact(RUN, null),
  /** Which inference server it is. */
  kind: fact(line(32), "kind"),
  /** As its worker sees it. */
  state: fact(STATE, "engine_state"),
  /** How far a start has come: `spawn`, `pull`, `download 3.2 GiB`, `load 40%`, `compile`, `warmup`. */
  phase: fact(words(100), "phase"),
  /** Why it is not ready, in words; null where the state says it all. */
  reason: fact(words(500), "reason"),
  /** Unix time in ms since which its state holds. */
  stateSince: fact(INSTANT, "state_ms", "sinceMs"),
  /** The port that it answers on at its machine. */
  port: fact(ordinal(65_535), "port"),
  https: fact(FLAG, null),
  /** Whether only its machine can reach it; null while unknown. */
  loopbackOnly: fact(optional<boolean>(), null),
  /** A base URL for the head to use, by the person who started the worker. */
  advertise: fact(exact(atMost(2048)), null),
  /** What it wants as bearer. A secret. */
  apiKey: fact(exact(atMost(8192)), null),
  /** How often it was started again after its first start. */
  restarts: fact(COUNT, "restarts"),
  /** The model names in its command, known before it answers. */
  expectedModels: fact(
    lines((wire) => wire.filter(isSoundName), bounded),
    null,
  ),
  /** The lines of its log that show why it ended last, the oldest first; safe to print. */
  evidence: fact(
    lines(
      (wire) => wire.slice(-MAX_EVIDENCE).map((text) => cleanLine(text, 500)),
      (value) => [...value],
    ),
    "evidence",
  ),
  /** What to do about that; null where nothing is known to help. */
  hint: fact(words(500), "hint"),
  /** Why it ended last, until it is ready again: a word; `reason` says it in a sentence. */
  failure: fact(words(32), "failure"),
  /** Unix time in ms since which a start is in its phase; null unless it starts. */
  phaseSince: fact(MAYBE_INSTANT, "phase_ms", "phaseMs"),
  /** The leading process on its machine. */
  pid: fact(ordinal(UINT32), "pid"),
  /** Whether an earlier run of its worker started it, and this one took it over while it ran. */
  adopted: fact(FLAG, "adopted"),
  /** Name or short id of its container, or its compose project; null: none, or not known yet. */
  container: fact(words(128), "container"),
  /** The UUIDs of the GPUs that it may use; empty: all of its machine, or it is not known. */
  gpus: fact(
    lines(
      (wire) => wire.slice(0, MAX_GPUS).map((uuid) => cleanLine(uuid, 100)),
      (value) => value.slice(0, MAX_GPUS),
    ),
    "gpu_uuids",
  ),
  /** Requests that it should have at once; null until its command or its own answer says it. */
  maxInFlight: fact(optional<number>(), "max_in_flight"),
  /** GPUs that its command asks for; null where it names no number. */
  gpusWanted: fact(ordinal(UINT32), "gpus_wanted"),
  /** The `Host` that requests to it must have; null: any. It goes into a request as it stands. */
  hostHeader: fact(
    exact((text) => text.length <= 300 && /^[\w.[\]:-]+$/.test(text)),
    null,
  ),
  /** The name under which it is offered as a plain HTTP server; null: it serves models. */
  service: fact(exact(isServiceName), "service"),
};

type Facts = typeof ENGINE_FACTS;
type ValueOf<F> = F extends Fact<infer V, infer _W, infer _S, infer _J, infer _N> ? V : never;
type WireOf<F> = F extends Fact<infer _V, infer W, infer _S, infer _J, infer _N> ? W : never;
type ShownOf<F> = F extends Fact<infer _V, infer _W, infer S, infer _J, infer _N> ? S : never;

/** What is known of an engine by its worker's word, checked. */
export type EngineReport = { [K in keyof Facts]: ValueOf<Facts[K]> };

/** The message as it arrives. */
export type WireEngineReport = {
  /** Counts the worker's engines from "1". */
  engine: string;
} & {
  [K in keyof Facts as Facts[K]["wire"] extends string ? Facts[K]["wire"] : K]: WireOf<Facts[K]>;
};

/** What viewers are shown of it. */
export type ShownReport = {
  [K in keyof Facts as Facts[K]["json"] extends string ? Facts[K]["json"] : never]: ShownOf<
    Facts[K]
  >;
};

const ENTRIES = Object.entries(ENGINE_FACTS) as [
  keyof EngineReport,
  Fact<unknown, unknown, unknown, string | null, string | null>,
][];
const SHOWN = ENTRIES.flatMap(([name, { json, show }]) =>
  json === null ? [] : [{ name, json, show }],
);

export const SHOWN_FACTS = SHOWN.map(({ json }) => json) as readonly (keyof ShownReport)[];

/** A report of which nothing is known yet. */
export function unknownReport(now: number): EngineReport {
  const unknown = ENTRIES.map(([name, fact]) => [name, fact.unknown]);
  return { ...(Object.fromEntries(unknown) as EngineReport), stateSince: now };
}

export function readReport(wire: WireEngineReport, now: number): EngineReport {
  const given = new Map<string, unknown>(Object.entries(wire));
  const facts = ENTRIES.map(([name, fact]) => [name, fact.read(given.get(fact.wire ?? name), now)]);
  const report = Object.fromEntries(facts) as EngineReport;
  return {
    ...report,
    expectedModels: report.service === null ? report.expectedModels : [],
    phaseSince: report.phase === null ? null : report.phaseSince,
  };
}

export function writeReport(engine: string, report: EngineReport, now: number): WireEngineReport {
  const facts = ENTRIES.map(([name, fact]) => [fact.wire ?? name, fact.write(report[name], now)]);
  return { engine, ...Object.fromEntries(facts) } as WireEngineReport;
}

export function showReport(report: EngineReport, now: number): ShownReport {
  const facts = SHOWN.map(({ name, json, show }) => [json, show(report[name], now)]);
  return Object.fromEntries(facts) as ShownReport;
}

/** A model is asked for by its exact name, so that one which cannot be shown as it is cannot be. */
export function isSoundName(id: string): boolean {
  return id !== "" && cleanLine(id, 512) === id;
}

/** As many names as leave room for the rest of the message. */
function bounded(names: readonly string[]): string[] {
  const kept: string[] = [];
  let bytes = 0;
  for (const name of names.slice(0, MAX_EXPECTED)) {
    bytes += Buffer.byteLength(name);
    if (bytes > MAX_EXPECTED_BYTES) break;
    kept.push(name);
  }
  return kept;
}
