/** What one decision costs: reading a body for it, and picking a replica. */

import { parseArgs } from "node:util";
import { createRouter } from "../../src/cluster/routing/routing.ts";
import { SCORE_TUNING } from "../../src/cluster/routing/score.ts";
import type { PromptFacts } from "../../src/protocol/replica-request.ts";
import { Names } from "../../src/proxy/json/names.ts";
import { scanObject, type ScannedObject } from "../../src/proxy/json/scan.ts";
import { MESSAGE_LISTS, PROMPT_MEMBERS, JsonPrompt } from "../../src/proxy/request/prompt.ts";
import { hashOf } from "../../src/util/flow/bulk.ts";
import { createFleet } from "./routing/fleet.ts";
import { seeded } from "./routing/workloads.ts";
import { median } from "./stats.ts";
import { table } from "./table.ts";

export const DECIDE_USAGE = `scripts/run.sh bench decide [options]

  --quick                  shorter
  --replicas <n,...>       default 8,100,1000
  --sizes <bytes,...>      of bodies; default 1024,16384,131072,1048576
  --json <file>            writes all figures there`;

export interface DecideOptions {
  replicas: readonly number[];
  sizes: readonly number[];
  /** How long each figure is measured, in milliseconds, and how often. */
  sliceMs: number;
  rounds: number;
  json: string | null;
}

/** Throws on anything that it does not understand. */
export function readDecideOptions(args: string[]): DecideOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      replicas: { type: "string", default: "8,100,1000" },
      sizes: { type: "string", default: "1024,16384,131072,1048576" },
      json: { type: "string" },
    },
  });
  return {
    replicas: values.replicas.split(",").map((text) => whole("replicas", text, 4096)),
    sizes: values.sizes.split(",").map((text) => whole("sizes", text, 64 * 1024 * 1024)),
    sliceMs: values.quick ? 20 : 200,
    rounds: values.quick ? 3 : 7,
    json: values.json ?? null,
  };
}

function whole(name: string, text: string, max: number): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= max) return n;
  throw new Error(`--${name}: "${text}" is no whole number from 1 to ${max}`);
}

/** Different conversations, so that no decision is like the one before. */
const CONVERSATIONS = 64;
const MESSAGE_CHARS = 1500;
const WANTED = new Names([...PROMPT_MEMBERS, "model", "stream"], { walked: MESSAGE_LISTS });

export async function runDecide(options: DecideOptions, signal: AbortSignal): Promise<void> {
  const results: Record<string, number>[] = [];
  const rows: number[][] = [];
  for (const size of options.sizes) {
    const bodies = Array.from({ length: CONVERSATIONS }, (_, i) => bodyOf(size, i));
    const scanUs = await timed(options, (i) => void scan(pick(bodies, i)));
    const scanned = bodies.map(scan);
    const hashUs = await timed(options, (i) => void read(pick(scanned, i)));
    const prompts = scanned.map(read);
    for (const replicas of options.replicas) {
      signal.throwIfAborted();
      const decideUs = await timed(options, decider(replicas, prompts));
      rows.push([size, replicas, scanUs, hashUs, decideUs]);
      results.push({
        body_bytes: size,
        replicas,
        scan_us: scanUs,
        hash_us: hashUs,
        decide_us: decideUs,
      });
    }
  }
  const header = ["body bytes", "replicas", "scan us", "hash us", "decide us"];
  process.stdout.write(`${table(header, rows)}\n`);
  if (options.json !== null) await Bun.write(options.json, JSON.stringify(results, null, 2));
}

/** A whole life of a lease: picked, begun, ended. */
function decider(replicas: number, prompts: readonly PromptFacts[]): (i: number) => void {
  const random = seeded(1);
  const fleet = createFleet(replicas, createRouter({ tuning: SCORE_TUNING }));
  return (i) => {
    const placed = fleet.place({ prompt: pick(prompts, i), session: null }, { now: i, random });
    placed.started(i + 1);
    placed.ended(i + 2, null);
  };
}

/** Microseconds for one, as the median of rounds; the first one is for the compiler. */
async function timed(
  { sliceMs, rounds }: Pick<DecideOptions, "sliceMs" | "rounds">,
  work: (i: number) => void,
): Promise<number> {
  const figures: number[] = [];
  let i = 0;
  for (let round = 0; round <= rounds; round += 1) {
    const begun = performance.now();
    let done = 0;
    while (performance.now() - begun < sliceMs) {
      for (let n = 0; n < 8; n += 1) work((i += 1));
      done += 8;
    }
    if (round > 0) figures.push(((performance.now() - begun) * 1000) / done);
    // Lets a signal in.
    await Bun.sleep(0);
  }
  return median(figures);
}

interface Scanned {
  bytes: Uint8Array;
  object: ScannedObject;
}

function scan(bytes: Uint8Array): Scanned {
  return { bytes, object: scanObject(bytes, WANTED) };
}

function read(scanned: Scanned): PromptFacts {
  const bodyHash = hashOf(scanned.bytes);
  const route = { operation: "chat" } as const;
  const facts = new JsonPrompt({ ...scanned, bodyHash, model: "m", route }).read(true);
  if (facts === null) throw new Error("the body has no prompt");
  return facts;
}

function bodyOf(size: number, conversation: number): Uint8Array {
  const messages: { role: string; content: string }[] = [];
  let length = 0;
  for (let i = 0; length < size; i += 1) {
    const content = `${conversation} ${i} said "this".\n`.repeat(80).slice(0, MESSAGE_CHARS);
    messages.push({ role: i % 2 === 0 ? "user" : "assistant", content });
    length += MESSAGE_CHARS;
  }
  const body = JSON.stringify({ model: "m", stream: true, messages });
  return new TextEncoder().encode(body);
}

function pick<T>(values: readonly T[], i: number): T {
  return values[i % values.length] as T;
}
