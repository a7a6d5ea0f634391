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

/** The sizes that the expectations are about. */
const REQUEST_BYTES = 2048;
const UPLOAD_BYTES = 1024 * 1024;

export function judge(figures: Figures): Verdict[] {
  return [
    requestsCpu(figures, "bare", 1.25),
    requestsCpu(figures, "sglang", 1),
    eventsCpu(figures, "bare", 1.2),
    eventsCpu(figures, "nginx", 1.35),
    addedTime(figures),
    slowest(figures),
    uploads(figures),
    gateway(figures),
    frames(figures),
    memory(figures),
    ...keyed(figures),
  ];
}

interface Pair<Row> {
  ours: Row;
  other: Row;
}

/** Rows of llmnode, with and without keys, with the other target's of the same shape. */
export function pairs<Row extends { target: TargetName }>(
  rows: readonly Row[],
  name: TargetName,
  shape: (row: Row) => string,
): Array<Pair<Row>> {
  return rows
    .filter(({ target }) => target === "llmnode" || target === "keys")
    .flatMap((ours) => {
      const other = rows.find((row) => row.target === name && shape(row) === shape(ours));
      return other === undefined || other === ours ? [] : [{ ours, other }];
    });
}

export function requestsShape({ body_bytes, concurrency }: RequestsRow): string {
  return `${body_bytes} B x ${concurrency}`;
}

export function streamsShape({ streams, rate }: StreamsRow): string {
  return `${streams} at ${rate}/s`;
}

function requestsCpu({ requests }: Figures, name: TargetName, limit: number): Verdict {
  const found = pairs(requests, name, requestsShape)
    .filter(({ ours }) => ours.body_bytes === REQUEST_BYTES)
    .map((pair) => requestsRatio(pair, ({ cpu_us_per_request }) => cpu_us_per_request));
  return {
    expectation: `2 KB requests, with and without keys: at most ${limit} times ${name}'s CPU`,
    ...verdict(found, (ratio) => ratio <= limit, Math.max),
  };
}

function eventsCpu({ streams }: Figures, name: TargetName, limit: number): Verdict {
  const found = pairs(streams, name, streamsShape).map(({ ours, other }) => ({
    shape: `${ours.target}, ${streamsShape(ours)}`,
    ratio: quotient(ours.cpu_us_per_event, other.cpu_us_per_event),
  }));
  return {
    expectation: `stream events: at most ${limit} times ${name}'s CPU`,
    ...verdict(found, (ratio) => ratio <= limit, Math.max),
  };
}

function addedTime({ requests }: Figures): Verdict {
  const found = alone(requests).map(({ ours, other }) => ours.added_p50_us - other.added_p50_us);
  const most = Math.max(...found) / 1000;
  return {
    expectation: "added p50 at most 0.15 ms above bare's, 2 KB, one at a time",
    measured: found.length === 0 ? "not measured" : `${most.toFixed(3)} ms`,
    met: found.length === 0 ? null : most <= 0.15,
  };
}

function slowest({ requests }: Figures): Verdict {
  const found = alone(requests).map((pair) => requestsRatio(pair, ({ p99_us }) => p99_us));
  return {
    expectation: "p99 at most 2 times bare's, 2 KB, one at a time",
    ...verdict(found, (ratio) => ratio <= 2, Math.max),
  };
}

function alone(requests: readonly RequestsRow[]): Array<Pair<RequestsRow>> {
  return pairs(requests, "bare", requestsShape).filter(
    ({ ours }) => ours.body_bytes === REQUEST_BYTES && ours.concurrency === 1,
  );
}

function uploads({ requests }: Figures): Verdict {
  const found = pairs(requests, "bare", requestsShape)
    .filter(({ ours }) => ours.body_bytes === UPLOAD_BYTES)
    .map((pair) => requestsRatio(pair, ({ cpu_us_per_request }) => cpu_us_per_request));
  return {
    expectation: "uploads of 1 MB: at most 1.5 times bare's CPU",
    ...verdict(found, (ratio) => ratio <= 1.5, Math.max),
  };
}

function gateway({ requests }: Figures): Verdict {
  const found = pairs(requests, "portkey", requestsShape)
    .filter(({ ours }) => ours.body_bytes === REQUEST_BYTES && ours.concurrency > 1)
    .map((pair) => requestsRatio(pair, ({ requests_per_s }) => requests_per_s));
  return {
    expectation: "at least 10 times the npm gateway's rate, 2 KB",
    ...verdict(found, (ratio) => ratio >= 10, Math.min),
  };
}

function requestsRatio(
  { ours, other }: Pair<RequestsRow>,
  figure: (row: RequestsRow) => number | null,
): Ratio {
  const shape = `${ours.target}, ${requestsShape(ours)}`;
  return { shape, ratio: quotient(figure(ours), figure(other)) };
}

function frames({ streams }: Figures): Verdict {
  const ours = streams.filter(({ target }) => target === "llmnode" || target === "keys");
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
  const single = found.filter(({ ours }) => ours.concurrency === 1);
  const most = Math.max(...single.map(({ ours, other }) => other.p50_us - ours.p50_us));
  return [
    {
      expectation: "keys and limits: at least 0.95 of the rate, highest concurrency",
      ...verdict(rates, (ratio) => ratio >= 0.95, Math.min),
    },
    {
      expectation: "keys and limits: p50 at most 20 us more, concurrency 1",
      measured: single.length === 0 ? "not measured" : `${most.toFixed(1)} us`,
      met: single.length === 0 ? null : most <= 20,
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

/** NaN: one of both was not measured. */
export function quotient(a: number | null, b: number | null): number {
  return a === null || b === null ? Number.NaN : a / b;
}
