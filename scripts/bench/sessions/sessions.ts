/** The benchmark of sessions: many workers at one head, and their way back after its restart. */

import { writeFileSync } from "node:fs";
import type { SessionsOptions } from "../lane/options.ts";
import {
  machineLoad,
  onStage,
  say,
  type Stage,
  startBenchHead,
  startEngine,
} from "../lane/stage.ts";
import { type Load, startLoad } from "../load/load.ts";
import { cpuMs, residentBytes } from "../proc.ts";
import { PROCESSES, startCrowd } from "./crowd.ts";
import { type ListsRow, measureLists } from "./lists.ts";
import { judgeSessions, type SessionsRow, sessionsReport } from "./report.ts";

/** Announcements and first probes are over by then; a shorter window needs no more than itself. */
const SETTLE_MS = 2000;

/** What is measured, as far as it has come: a run that is cut short has figures as well. */
interface Found {
  sessions: SessionsRow[];
  lists: ListsRow[];
}

interface Run {
  stage: Stage;
  load: Load;
  enginePort: number;
  windowMs: number;
  found: Found;
}

/** Everything that it starts has ended when it settles; rejects when `signal` aborts. */
export async function runSessions(options: SessionsOptions, signal: AbortSignal): Promise<void> {
  const { binary, counts, windowMs, limitMs, json } = options;
  const found: Found = { sessions: [], lists: [] };
  const about = { pinning: "", window_ms: windowMs, load_average_at_start: machineLoad() };
  const limit = new AbortController();
  const over = new Error(`it is not done after ${limitMs / 1000} s (--limit)`);
  const timer = setTimeout(() => limit.abort(over), limitMs);
  try {
    const until = AbortSignal.any([signal, limit.signal]);
    await onStage({ binary, signal: until }, async (stage) => {
      about.pinning = stage.children.pinning;
      say(`${about.pinning}; workers in ${PROCESSES} processes on the latter, all over TLS`);
      say(`load average at the start: ${about.load_average_at_start}`);
      const enginePort = await startEngine(stage);
      const load = await startLoad(stage.children, stage.workplace);
      const run = { stage, load, enginePort, windowMs, found };
      await measureEmpty(run);
      for (const workers of counts) await measureSessions(run, workers);
    });
  } finally {
    clearTimeout(timer);
    if (found.lists.length + found.sessions.length > 0) {
      process.stdout.write(`\n${sessionsReport(found)}`);
    }
    if (json !== null) {
      const all = { schema: "llmnode.bench.sessions/1", ...about, ...found };
      writeFileSync(
        json,
        `${JSON.stringify({ ...all, expected: judgeSessions(found) }, null, 2)}\n`,
      );
    }
  }
}

/** A head with one worker: what the lists and requests of the others are compared with. */
async function measureEmpty({ stage, load, enginePort, windowMs, found }: Run): Promise<void> {
  say("a head with one worker");
  const head = await startBenchHead(stage, { name: "sessions-empty" });
  const crowd = await startCrowd(stage, "empty");
  crowd.order(head, { workers: 1, enginePort });
  await crowd.until(1);
  const { children } = stage;
  const on = { children, load, head, enginePort, workers: 1, windowMs, say };
  found.lists.push(await measureLists(on));
  await crowd.stop();
  await head.child.stop();
}

async function measureSessions(run: Run, workers: number): Promise<void> {
  const { stage, load, enginePort, windowMs, found } = run;
  const settleMs = Math.min(SETTLE_MS, windowMs);
  say(`${workers} workers`);
  const name = `sessions-${workers}`;
  const head = await startBenchHead(stage, { name });
  await Bun.sleep(settleMs);
  const row = emptyRow(workers);
  found.sessions.push(row);
  row.head_memory_empty_bytes = residentBytes(head.child.pid);
  const crowd = await startCrowd(stage, name);
  const cpuAtFirst = { head: cpuMs(head.child.pid), crowd: crowd.cpuMs() };
  const started = performance.now();
  crowd.order(head, { workers, enginePort });
  await crowd.until(workers);
  row.joined_s = secondsSince(started);
  row.connected = crowd.sum("connected");
  row.head_cpu_ms_per_join = (cpuMs(head.child.pid) - cpuAtFirst.head) / row.connected;
  row.workers_cpu_ms_per_join = (crowd.cpuMs() - cpuAtFirst.crowd) / row.connected;
  say(`${row.connected} are in after ${row.joined_s.toFixed(1)} s`);
  await Bun.sleep(settleMs);

  const acksBefore = crowd.sum("acks");
  const cpuBefore = cpuMs(head.child.pid);
  const windowStart = performance.now();
  await Bun.sleep(windowMs);
  const usedMs = cpuMs(head.child.pid) - cpuBefore;
  const heartbeats = crowd.sum("acks") - acksBefore;
  const tookMs = performance.now() - windowStart;
  row.heartbeats_per_s = (heartbeats / tookMs) * 1000;
  row.head_cpu_share = usedMs / tookMs;
  row.head_cpu_ms_per_heartbeat = usedMs / heartbeats;
  row.head_memory_bytes = residentBytes(head.child.pid);

  const { children } = stage;
  found.lists.push(
    await measureLists({ children, load, head, enginePort, workers, windowMs, say }),
  );

  const stopped = performance.now();
  await head.child.stop();
  await crowd.until(0);
  const restarted = performance.now();
  const next = await startBenchHead(stage, { name, sessions: head.sessions });
  row.head_away_s = secondsSince(stopped);
  await crowd.until(workers);
  row.back_s = secondsSince(restarted);
  row.refusals = crowd.sum("refusals");
  await crowd.stop();
  await next.child.stop();
}

function emptyRow(workers: number): SessionsRow {
  return {
    workers,
    connected: null,
    joined_s: null,
    head_cpu_ms_per_join: null,
    workers_cpu_ms_per_join: null,
    heartbeats_per_s: null,
    head_cpu_share: null,
    head_cpu_ms_per_heartbeat: null,
    head_memory_empty_bytes: null,
    head_memory_bytes: null,
    head_away_s: null,
    back_s: null,
    refusals: null,
  };
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
