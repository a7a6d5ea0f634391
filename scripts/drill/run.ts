/** One drill: clients ask, the fault strikes, and all that was asked is looked at. */

import { startLoad } from "./client.ts";
import type { Cluster } from "./cluster.ts";
import type { Drill } from "./faults.ts";
import type { DrillOptions } from "./options.ts";
import { randomFrom, recovery, tally, verdict, type Row } from "./tally.ts";

/** Of the requests of all clients, the share that is answered before the fault. */
const SHARE_BEFORE = 0.15;

const POLL_MS = 20;

/** Rejects when the drill is interrupted: faults that take their time are not waited for. */
function interruption(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

export interface Result {
  row: Row;
  /** Empty when all is as it should be. */
  failures: string[];
}

export async function runDrill(
  drill: Drill,
  cluster: Cluster,
  { options, seed, signal }: { options: DrillOptions; seed: number; signal: AbortSignal },
): Promise<Result> {
  const { clients, requests, limitMs } = options;
  await cluster.heal();
  const deathsBefore = cluster.deaths();
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const load = startLoad({ url: cluster.url, clients, requests, seed, limitMs, signal: both });
  try {
    while (load.samples.length < clients * requests * SHARE_BEFORE) {
      signal.throwIfAborted();
      await Bun.sleep(POLL_MS);
    }
    let faultAt = load.now();
    const mark = () => {
      faultAt = load.now();
    };
    const striking = drill.strike({ cluster, load, random: randomFrom(seed), mark });
    const told = await Promise.race([striking, interruption(signal)]);
    await load.finish();
    signal.throwIfAborted();
    await cluster.heal();
    const row = tally(drill.name, load.samples, {
      recoveryMs: recovery(load.frames, { faultAt, endAt: load.endAt }),
      deaths: cluster.deaths() - deathsBefore,
      note: told.note,
    });
    const expected = { excused: told.excused ?? null, maxDeaths: drill.maxDeaths };
    return { row, failures: [...told.failures, ...verdict(row, load.samples, expected)] };
  } finally {
    stop.abort();
  }
}
