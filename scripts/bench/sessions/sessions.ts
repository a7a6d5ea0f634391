/** The benchmark of sessions: many workers at one head, and their way back after its restart. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Verdict } from "../front/judge.ts";
import type { SessionsOptions } from "../lane/options.ts";
import { below, verdictTable } from "../lane/report.ts";
import {
  machineLoad,
  onStage,
  say,
  type Stage,
  startBenchHead,
  startEngine,
  type StartedHead,
} from "../lane/stage.ts";
import { cpuMs, residentBytes } from "../proc.ts";
import { table } from "../table.ts";

/** Asks a process of fake workers for more of them. */
export interface SessionsOrder {
  workers: number;
  /** The head's address for workers, `host:port`. */
  sessions: string;
  /** The head's data directory. */
  dir: string;
  prefix: string;
  enginePort: number;
}

/** What a process of fake workers tells all the time. */
export interface SessionsReport {
  connected: number;
  acks: number;
  refusals: number;
}

export interface SessionsRow {
  workers: number;
  /** From the order until the last one has its welcome; all dial at once. */
  joined_s: number;
  heartbeats_per_s: number;
  head_cpu_share: number;
  head_cpu_ms_per_heartbeat: number;
  head_memory_empty_bytes: number;
  head_memory_bytes: number;
  /** Without workers for so long: from the order to stop until the new head is up. */
  head_away_s: number;
  /** From the new head's start until the last worker is back. */
  back_s: number;
  refusals: number;
}

const BACK_LIMIT_S = 10;
/** Workers that are not there after so long are no longer waited for. */
const GIVE_UP_MS = 60_000;
const PROCESSES = 2;
/** Announcements and first probes are over by then; a shorter window needs no more than itself. */
const SETTLE_MS = 2000;
const POLL_MS = 20;

/** Everything that it starts has ended when it settles; rejects when `signal` aborts. */
export async function runSessions(options: SessionsOptions, signal: AbortSignal): Promise<void> {
  const { binary, counts, windowMs, json } = options;
  await onStage({ binary, signal }, async (stage) => {
    const { pinning } = stage.children;
    const loadBefore = machineLoad();
    say(`${pinning}; workers in ${PROCESSES} processes on the latter, all over TLS`);
    say(`load average at the start: ${loadBefore}`);
    const enginePort = await startEngine(stage);
    const rows: SessionsRow[] = [];
    for (const workers of counts) {
      rows.push(await measureSessions(stage, { workers, windowMs, enginePort }));
    }
    process.stdout.write(`\n${sessionsReport(rows)}`);
    if (json === null) return;
    const about = { pinning, window_ms: windowMs, load_average_at_start: loadBefore };
    const all = { schema: "llmnode.bench.sessions/1", ...about, sessions: rows };
    writeFileSync(json, `${JSON.stringify({ ...all, expected: judgeSessions(rows) }, null, 2)}\n`);
  });
}

async function measureSessions(
  stage: Stage,
  options: { workers: number; windowMs: number; enginePort: number },
): Promise<SessionsRow> {
  const { workers, windowMs } = options;
  const settleMs = Math.min(SETTLE_MS, windowMs);
  say(`${workers} workers`);
  const name = `sessions-${workers}`;
  const head = await startBenchHead(stage, { name });
  await Bun.sleep(settleMs);
  const memoryEmpty = residentBytes(head.child.pid);
  const crowd = await startCrowd(stage, name);
  const started = performance.now();
  crowd.order(head, options);
  await crowd.until(workers);
  const joinedS = secondsSince(started);
  await Bun.sleep(settleMs);

  const acksBefore = crowd.sum("acks");
  const cpuBefore = cpuMs(head.child.pid);
  const windowStart = performance.now();
  await Bun.sleep(windowMs);
  const usedMs = cpuMs(head.child.pid) - cpuBefore;
  const heartbeats = crowd.sum("acks") - acksBefore;
  const tookMs = performance.now() - windowStart;
  const memory = residentBytes(head.child.pid);

  const stopped = performance.now();
  await head.child.stop();
  await crowd.until(0);
  const restarted = performance.now();
  const next = await startBenchHead(stage, { name, sessions: head.sessions });
  const headAwayS = secondsSince(stopped);
  await crowd.until(workers);
  const backS = secondsSince(restarted);
  await crowd.stop();
  await next.child.stop();
  return {
    workers,
    joined_s: joinedS,
    heartbeats_per_s: (heartbeats / tookMs) * 1000,
    head_cpu_share: usedMs / tookMs,
    head_cpu_ms_per_heartbeat: usedMs / heartbeats,
    head_memory_empty_bytes: memoryEmpty,
    head_memory_bytes: memory,
    head_away_s: headAwayS,
    back_s: backS,
    refusals: crowd.sum("refusals"),
  };
}

interface Crowd {
  order(head: StartedHead, wish: { workers: number; enginePort: number }): void;
  sum(what: keyof SessionsReport): number;
  /** Waits until so many are connected. */
  until(connected: number): Promise<void>;
  stop(): Promise<void>;
}

async function startCrowd({ children, workplace }: Stage, prefix: string): Promise<Crowd> {
  const reports = new Map<number, SessionsReport>();
  const processes = Array.from({ length: PROCESSES }, (_, n) =>
    children.start({
      name: `workers ${n}`,
      argv: [process.execPath, join(import.meta.dir, "main.ts")],
      place: "rest",
      cwd: workplace,
      onMessage: (report) => void reports.set(n, report as SessionsReport),
    }),
  );
  await Promise.all(processes.map((child) => child.line(/workers are up/)));
  const sum = (what: keyof SessionsReport) =>
    [...reports.values()].reduce((all, report) => all + report[what], 0);
  return {
    sum,
    order({ sessions, dir }, { workers, enginePort }) {
      for (const [n, child] of processes.entries()) {
        const share = Math.floor((workers + n) / PROCESSES);
        const order: SessionsOrder = {
          ...{ workers: share, sessions, dir, enginePort },
          prefix: `${prefix}-${n}`,
        };
        child.send(order);
      }
    },
    async until(connected) {
      const deadline = performance.now() + GIVE_UP_MS;
      while (sum("connected") !== connected) {
        if (performance.now() > deadline) {
          throw new Error(`${sum("connected")} workers are connected, not ${connected}`);
        }
        await Promise.race([Bun.sleep(POLL_MS), children.trouble]);
      }
    },
    stop: async () => void (await Promise.all(processes.map((child) => child.stop()))),
  };
}

export function judgeSessions(rows: readonly SessionsRow[]): Verdict[] {
  return rows.map(({ workers, back_s }) =>
    below(`${workers} workers are back within ${BACK_LIMIT_S} s after a restart`, back_s, {
      limit: BACK_LIMIT_S,
      unit: "s",
    }),
  );
}

export function sessionsReport(rows: readonly SessionsRow[]): string {
  return [
    "Sessions (memory of the head in MB; back: from the start of the new head to the last worker)",
    table(
      [
        ...["workers", "joined s", "beats/s", "head core %", "ms/beat", "empty", "memory"],
        ...["KB/worker", "away s", "back s", "refusals"],
      ],
      rows.map((row) => [
        row.workers,
        row.joined_s,
        Math.round(row.heartbeats_per_s),
        row.head_cpu_share * 100,
        row.head_cpu_ms_per_heartbeat,
        Math.round(row.head_memory_empty_bytes / 1e6),
        Math.round(row.head_memory_bytes / 1e6),
        Math.round((row.head_memory_bytes - row.head_memory_empty_bytes) / row.workers / 1000),
        row.head_away_s,
        row.back_s,
        row.refusals,
      ]),
    ),
    "Expected",
    verdictTable(judgeSessions(rows)),
    "",
  ].join("\n\n");
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
