/** The front's benchmark: llmnode beside a bare relay and other relays, in one run. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseDuration } from "../../../src/util/units.ts";
import { createChildren } from "../children.ts";
import type { Figures } from "./judge.ts";
import { type FrontLimits, FULL, type Part, PARTS, QUICK } from "./options.ts";
import { frontJson, frontReport } from "./report.ts";
import { startLoad } from "../load/load.ts";
import { TICK_MS } from "../proc.ts";
import { measureRequests } from "../requests.ts";
import { measureSoak } from "../soak.ts";
import { measureStreams } from "../streams.ts";
import { builtBinary, startField } from "../targets.ts";

export const FRONT_USAGE = `scripts/run.sh bench front [options]

  --quick                  smaller and shorter: about five minutes with all of them
  --only <part>            requests, streams or soak; may be repeated
  --json <file>            writes all figures there
  --keys                   also measures llmnode with an API key that has every limit
  --with-portkey           also measures ${"@portkey-ai/gateway"}, fetched by npm
  --with-routers           also measures sglang-router and vllm-router, fetched by pip
  --binary <file>          the llmnode to measure; default: of this tree, built if stale
  --rounds <n>             how often each figure is measured; the median counts
  --warm-up <n>            requests to each one before anything counts
  --slice <duration>       how long requests are sent in one round
  --sizes <bytes,...>      request bodies
  --concurrency <n,...>    requests at a time
  --window <duration>      how long streams are counted in one round
  --shapes <n@rate,...>    streams and events a second of each
  --soak <duration>        how long the soak is`;

interface FrontOptions {
  limits: FrontLimits;
  parts: readonly Part[];
  json: string | null;
  withPortkey: boolean;
  withRouters: boolean;
  withKeys: boolean;
  binary: string | null;
}

/** Throws on anything that it does not understand. */
export function readFrontOptions(args: string[]): FrontOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      json: { type: "string" },
      keys: { type: "boolean", default: false },
      "with-portkey": { type: "boolean", default: false },
      "with-routers": { type: "boolean", default: false },
      binary: { type: "string" },
      rounds: { type: "string" },
      "warm-up": { type: "string" },
      slice: { type: "string" },
      sizes: { type: "string" },
      concurrency: { type: "string" },
      window: { type: "string" },
      shapes: { type: "string" },
      soak: { type: "string" },
    },
  });
  const limits = structuredClone(values.quick ? QUICK : FULL);
  const { requests, streams, soak } = limits;
  if (values.rounds !== undefined) limits.rounds = positive("rounds", values.rounds);
  if (values["warm-up"] !== undefined) {
    limits.warmUp.requests = positive("warm-up", values["warm-up"]);
  }
  if (values.slice !== undefined) requests.sliceMs = duration("slice", values.slice);
  if (values.sizes !== undefined) requests.bodyBytes = positives("sizes", values.sizes);
  if (values.concurrency !== undefined) {
    requests.concurrency = positives("concurrency", values.concurrency);
  }
  if (values.window !== undefined) streams.windowMs = duration("window", values.window);
  if (values.shapes !== undefined) {
    streams.shapes = values.shapes.split(",").map((shape) => {
      const [count = "", rate = ""] = shape.split("@");
      return { streams: positive("shapes", count), rate: positive("shapes", rate) };
    });
  }
  if (values.soak !== undefined) soak.durationMs = duration("soak", values.soak);
  const unknown = values.only.find((name) => !PARTS.some((part) => part === name));
  if (unknown !== undefined) throw new Error(`--only is one of ${PARTS.join(", ")}`);
  return {
    limits,
    parts: PARTS.filter((part) => values.only.length === 0 || values.only.includes(part)),
    json: values.json ?? null,
    withPortkey: values["with-portkey"],
    withRouters: values["with-routers"],
    withKeys: values.keys,
    binary: values.binary ?? null,
  };
}

/** Everything that it starts has ended when it settles; rejects when `signal` aborts. */
export async function runFront(options: FrontOptions, signal: AbortSignal): Promise<void> {
  const { limits, parts } = options;
  const binary = options.binary === null ? await builtBinary() : resolve(options.binary);
  const workplace = mkdtempSync(join(tmpdir(), "llmnode-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(workplace, { recursive: true, force: true }));
  const children = stack.use(createChildren());
  const work = async () => {
    const { targets, skipped } = await startField({
      ...{ children, workplace, binary },
      withPortkey: options.withPortkey,
      withRouters: options.withRouters,
      withKeys: options.withKeys,
    });
    const load = await startLoad(children, workplace);
    say(`${children.pinning}; processor time comes in ticks of ${TICK_MS} ms`);
    for (const line of skipped) say(`skipped: ${line}`);
    const loadBefore = machineLoad();
    say(`load average at the start: ${loadBefore}`);
    const with_ = { load, targets, limits, say };
    const figures: Figures = {
      requests: parts.includes("requests") ? await measureRequests(with_) : [],
      streams: parts.includes("streams") ? await measureStreams(with_) : [],
      soak: parts.includes("soak") ? await measureSoak(with_) : [],
    };
    say("");
    process.stdout.write(frontReport(figures));
    if (options.json === null) return;
    const about = { pinning: children.pinning, skipped, limits, load_average_at_start: loadBefore };
    writeFileSync(options.json, frontJson(figures, about));
  };
  await Promise.race([work(), children.trouble, aborted(signal)]);
}

function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason));
  return promise;
}

function positives(name: string, list: string): number[] {
  return list.split(",").map((text) => positive(name, text));
}

function positive(name: string, text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n <= 0 || n > 10_000_000) {
    throw new Error(`--${name}: "${text}" is no positive whole number`);
  }
  return n;
}

function duration(name: string, text: string): number {
  const ms = parseDuration(text);
  if (ms === null || ms === 0) throw new Error(`--${name}: "${text}" is no duration such as 500ms`);
  return ms;
}

/** What others do on this machine shows here: figures taken under load say little. */
function machineLoad(): string {
  return readFileSync("/proc/loadavg", "utf8").split(" ").slice(0, 3).join(" ");
}

/** To stderr: stdout is for the tables. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
