/** Processes full of workers that are no more than a session, at one head. */

import { join } from "node:path";
import type { Stage, StartedHead } from "../lane/stage.ts";
import { cpuMs } from "../proc.ts";

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

export interface Crowd {
  order(head: StartedHead, wish: { workers: number; enginePort: number }): void;
  sum(what: keyof SessionsReport): number;
  /** What all of its processes have used so far. */
  cpuMs(): number;
  /** Waits until so many are connected, or for as long as is sensible. */
  until(connected: number): Promise<void>;
  stop(): Promise<void>;
}

export const PROCESSES = 2;
/** Workers that are not there after so long are no longer waited for. */
const GIVE_UP_MS = 120_000;
const POLL_MS = 20;

export async function startCrowd({ children, workplace }: Stage, prefix: string): Promise<Crowd> {
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
    cpuMs: () => processes.reduce((all, { pid }) => all + cpuMs(pid), 0),
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
      while (sum("connected") !== connected && performance.now() < deadline) {
        await Promise.race([Bun.sleep(POLL_MS), children.trouble]);
      }
    },
    stop: async () => void (await Promise.all(processes.map((child) => child.stop()))),
  };
}
