/** Holds the figures of the front's benchmark against what is expected of them. */

import type { RequestsRow } from "../requests.ts";
import type { SoakRow } from "../soak.ts";
import type { StreamsRow } from "../streams.ts";
import type { TargetName } from "../targets.ts";

export interface Figures {
  requests: readonly RequestsRow[];
  streams: readonly StreamsRow[];
  soak: readonly SoakRow[];
}

export interface Verdict {
  expectation: string;
  measured: string;
  /** Null: what it takes was not measured. */
  met: boolean | null;
}

/** Shorter soaks show how heaps grow at first, not what leaks. */
const SOAK_MIN_S = 300;
/** The scatter of a heap that is flat, over minutes. */
const FLAT_MB_PER_MIN = 1;
/** Idle connections to the engine that are kept. */
const KEPT_DESCRIPTORS = 256;

export function judge(figures: Figures): Verdict[] {
  return [rates(figures), added(figures, "p50", 500), added(figures, "p99", 2000)].concat(
    gateway(figures),
    events(figures),
    frames(figures),
    memory(figures),
    keyed(figures),
  );
}

interface Pair<Row> {
  ours: Row;
  other: Row;
}

/** Rows of llmnode with the other target's of the same shape. */
export function pairs<Row extends { target: TargetName }>(
  rows: readonly Row[],
  other: TargetName,
  shape: (row: Row) => string,
): Array<Pair<Row>> {
  return rows
    .filter(({ target }) => target === "llmnode")
    .flatMap((ours) => {
      const found = rows.find((row) => row.target === other && shape(row) === shape(ours));
      return found === undefined ? [] : [{ ours, other: found }];
    });
}

export function requestsShape({ body_bytes, concurrency }: RequestsRow): string {
  return `${body_bytes} B x ${concurrency}`;
}

export function streamsShape({ streams, rate }: StreamsRow): string {
  return `${streams} at ${rate}/s`;
}

function rates({ requests }: Figures): Verdict {
  const highest = Math.max(...requests.map(({ concurrency }) => concurrency));
  const found = pairs(requests, "bare", requestsShape)
    .filter(({ ours }) => ours.concurrency === highest)
    .map(({ ours, other }) => ({
      shape: requestsShape(ours),
      ratio: ours.requests_per_s / other.requests_per_s,
    }));
  return {
    expectation: "at least 0.70 of the bare relay's rate, each body size, highest concurrency",
    ...verdict(found, (ratio) => ratio >= 0.7, Math.min),
  };
}

function added({ requests }: Figures, which: "p50" | "p99", limitUs: number): Verdict {
  const row = requests.find(
    ({ target, body_bytes, concurrency }) =>
      target === "llmnode" && body_bytes === 2048 && concurrency === 1,
  );
  const us = which === "p50" ? row?.added_p50_us : row?.added_p99_us;
  return {
    expectation: `added ${which} at most ${limitUs / 1000} ms, 2 KB, concurrency 1`,
    measured: us === undefined ? "not measured" : `${(us / 1000).toFixed(2)} ms`,
    met: us === undefined ? null : us <= limitUs,
  };
}

function gateway({ requests }: Figures): Verdict {
  const found = pairs(requests, "portkey", requestsShape)
    .filter(({ ours }) => ours.body_bytes === 2048 && ours.concurrency > 1)
    .map(({ ours, other }) => ({
      shape: requestsShape(ours),
      ratio: ours.requests_per_s / other.requests_per_s,
    }));
  return {
    expectation: "at least 10 times the npm gateway's rate, 2 KB",
    ...verdict(found, (ratio) => ratio >= 10, Math.min),
  };
}

function events({ streams }: Figures): Verdict {
  const found = pairs(streams, "nginx", streamsShape).map(({ ours, other }) => ({
    shape: streamsShape(ours),
    ratio: (ours.cpu_us_per_event ?? Number.NaN) / (other.cpu_us_per_event ?? Number.NaN),
  }));
  return {
    expectation: "streams at most 1.5 times nginx's CPU per event",
    ...verdict(found, (ratio) => ratio <= 1.5, Math.max),
  };
}

function frames({ streams }: Figures): Verdict {
  const ours = streams.filter(({ target }) => target === "llmnode");
  const count = (figure: (row: StreamsRow) => number) =>
    ours.reduce((sum, row) => sum + figure(row), 0);
  const bad = count(({ lost, wrong, broken_streams }) => lost + wrong + broken_streams);
  return {
    expectation: "no lost frame",
    measured:
      ours.length === 0
        ? "not measured"
        : `${bad} lost, wrong or cut, of ${count((row) => row.frames)} frames`,
    met: ours.length === 0 ? null : bad === 0,
  };
}

function memory({ soak }: Figures): Verdict {
  const row = soak.find(({ target }) => target === "llmnode");
  const expectation = `memory flat (below ${FLAT_MB_PER_MIN} MB/min), descriptors given back`;
  if (row === undefined) return { expectation, measured: "not measured", met: null };
  const { memory_slope_mb_per_min: rise, descriptors_before, descriptors_after } = row;
  const measured = `${rise.toFixed(2)} MB/min, ${descriptors_before} to ${descriptors_after} descriptors`;
  if (row.duration_s < SOAK_MIN_S) {
    return { expectation, measured: `${measured}, too short to tell`, met: null };
  }
  const isGivenBack = descriptors_after <= descriptors_before + KEPT_DESCRIPTORS;
  return { expectation, measured, met: rise <= FLAT_MB_PER_MIN && isGivenBack };
}

/** Only where it was asked for: nothing is said of it otherwise. */
function keyed({ requests }: Figures): Verdict[] {
  const found = pairs(requests, "keys", requestsShape);
  if (found.length === 0) return [];
  const highest = Math.max(...requests.map(({ concurrency }) => concurrency));
  const rates = found
    .filter(({ ours }) => ours.concurrency === highest)
    .map(({ ours, other }) => ({
      shape: requestsShape(ours),
      ratio: other.requests_per_s / ours.requests_per_s,
    }));
  const alone = found.filter(({ ours }) => ours.concurrency === 1);
  const most = Math.max(...alone.map(({ ours, other }) => other.p50_us - ours.p50_us));
  return [
    {
      expectation: "keys and limits: at least 0.95 of the rate, highest concurrency",
      ...verdict(rates, (ratio) => ratio >= 0.95, Math.min),
    },
    {
      expectation: "keys and limits: p50 at most 20 us more, concurrency 1",
      measured: alone.length === 0 ? "not measured" : `${most.toFixed(1)} us`,
      met: alone.length === 0 ? null : most <= 20,
    },
  ];
}

interface Ratio {
  shape: string;
  ratio: number;
}

/** The worst decides. */
function verdict(
  found: readonly Ratio[],
  isGood: (ratio: number) => boolean,
  worstOf: (...ratios: number[]) => number,
): Pick<Verdict, "measured" | "met"> {
  const worst = worstOf(...found.map(({ ratio }) => ratio));
  const at = found.find(({ ratio }) => ratio === worst);
  if (at === undefined) return { measured: "not measured", met: null };
  return { measured: `${worst.toFixed(2)} (${at.shape})`, met: isGood(worst) };
}
