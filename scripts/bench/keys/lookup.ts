/** Measures in this process what a key costs a request: look-up, limits, accounting. */

import { statSync } from "node:fs";
import { join } from "node:path";
import { formatKey, newKeyText } from "../../../src/head/access/key-text.ts";
import { type Keys, openKeys } from "../../../src/head/access/keys.ts";
import { createAdmit } from "../../../src/head/quota/limits.ts";
import { openStore } from "../../../src/head/store/store.ts";
import { startUsage } from "../../../src/head/quota/usage.ts";
import type { KeyLimits, Caller } from "../../../src/protocol/caller.ts";
import type { RequestRecord } from "../../../src/proxy/record/record.ts";
import { silentLog } from "../../../src/util/log.ts";
import { median } from "../stats.ts";

export interface LookUpFigures {
  keys: number;
  few: number;
  few_us: number;
  look_up_us: number;
  unknown_us: number;
  admit_us: number;
  usage_us: number;
  load_ms: number;
  memory_mb: number;
  store_mb: number;
}

const FEW = 10;
const CALLS = 20_000;
const MB = 1024 * 1024;
const LIMITS: KeyLimits = {
  requestsPerMinute: 1_000_000,
  tokensPerMinute: 1_000_000_000,
  concurrency: 100_000,
  tokensPerDay: 1_000_000_000_000,
};

/** `dir` is an empty folder. */
export async function lookUp(options: {
  dir: string;
  keys: number;
  rounds: number;
}): Promise<LookUpFigures> {
  const { rounds } = options;
  const few = await measureKeys(join(options.dir, "few"), FEW, rounds);
  const many = await measureKeys(join(options.dir, "many"), options.keys, rounds);
  const caller = callerOf(many.sample);
  const admit = createAdmit({ now: Date.now, usedToday: new Map(), onRejected() {} });
  const record = recordOf(caller);
  const prompt = { bytes: 1800, hashes: new Uint32Array(), ends: new Uint32Array(), maxTokens: 64 };
  const facts = { operation: "chat", bytes: 2048, prompt: () => prompt };
  const admit_us = timed(rounds, () => admit(caller, facts).end(record));
  await using usage = startUsage({ dir: options.dir, log: silentLog, now: Date.now });
  const usage_us = timed(rounds, () => usage.note(record));
  return {
    keys: options.keys,
    few: FEW,
    few_us: few.look_up_us,
    look_up_us: many.look_up_us,
    unknown_us: many.unknown_us,
    admit_us,
    usage_us,
    load_ms: many.load_ms,
    memory_mb: many.memory_mb,
    store_mb: many.store_mb,
  };
}

async function measureKeys(dir: string, count: number, rounds: number) {
  const texts = Array.from({ length: count }, newKeyText);
  {
    // As `create` stores them, but not each with a wait for the disk.
    await using store = openStore({ dir, log: silentLog });
    for (const { id, secret } of texts) {
      const stored = {
        name: `key ${id}`,
        hash: Bun.CryptoHasher.hash("sha256", secret, "hex"),
        role: "user",
        models: null,
        limits: LIMITS,
        created_at: Date.now(),
        expires_at: null,
        revoked_at: null,
      };
      await store.put(`keys/${id}`, stored, { durable: false });
    }
  }
  const written = texts.map(formatKey);
  Bun.gc(true);
  const before = process.memoryUsage.rss();
  const startedAt = performance.now();
  await using store = openStore({ dir, log: silentLog });
  using keys = openKeys({ store, log: silentLog, now: Date.now });
  const load_ms = performance.now() - startedAt;
  Bun.gc(true);
  const memory_mb = (process.memoryUsage.rss() - before) / MB;
  const strangers = Array.from({ length: 1000 }, () => formatKey(newKeyText()));
  const at = (list: readonly string[], i: number) => list[(i * 7919) % list.length] ?? "";
  return {
    sample: checked(keys, at(written, 0)),
    look_up_us: timed(rounds, (i) => void checked(keys, at(written, i))),
    unknown_us: timed(rounds, (i) => void keys.check(at(strangers, i))),
    load_ms,
    memory_mb,
    store_mb: statSync(join(dir, "store.sqlite")).size / MB,
  };
}

function checked(keys: Keys, text: string) {
  const result = keys.check(text);
  if (!result.ok) throw new Error(result.message);
  return result.key;
}

/** Microseconds of one call, the median of the rounds. */
function timed(rounds: number, call: (i: number) => void): number {
  const round = () => {
    const startedAt = performance.now();
    for (let i = 0; i < CALLS; i += 1) call(i);
    return ((performance.now() - startedAt) * 1000) / CALLS;
  };
  round();
  return median(Array.from({ length: rounds }, round));
}

function callerOf(key: NonNullable<Caller["key"]>): Caller {
  return { key, address: "127.0.0.1", role: "user" };
}

/** A chat of 300 tokens in and 64 out. */
function recordOf({ key }: Caller): RequestRecord {
  return {
    id: "bench",
    startedAt: Date.now(),
    durationMs: 100,
    method: "POST",
    route: "/v1/chat/completions",
    operation: "chat",
    resume: null,
    model: "bench",
    alias: false,
    modelKnown: true,
    stream: false,
    status: 200,
    error: null,
    attempts: [],
    queueMs: 0,
    bodyMs: 0,
    firstByteMs: 50,
    bytesIn: 2048,
    promptBytes: 1800,
    bytesOut: 500,
    chunks: 1,
    usage: { input: 300, output: 64, cachedInput: 0, reasoning: null },
    usageEstimated: false,
    finishReason: "stop",
    clientAddress: "127.0.0.1",
    key: key && { id: key.id, name: key.name },
    traceparent: null,
    trace: null,
    bodies: null,
  };
}
