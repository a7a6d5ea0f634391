/** Knows every process that an engine started, and ends them all. */

import { systemCode } from "../../protocol/errors.ts";
import { sleep } from "../../util/sleep.ts";
import { engineMarkOf, listProcesses, readProcess, type ProcessEntry } from "./proc.ts";
import type { EngineProcess } from "./process.ts";

export interface EndLimits {
  /** From SIGTERM to the leader until it is interrupted. 0: no SIGTERM to the leader. */
  stopTimeoutMs: number;
  /** From one SIGINT to the leader until the rest is signalled. 0: no SIGINT. */
  interruptTimeoutMs: number;
  /** From SIGTERM to all until SIGKILL. 0: no SIGTERM to all. */
  groupStopTimeoutMs: number;
  /** From the first SIGKILL until it is given up. */
  killTimeoutMs: number;
  /** When aborted, the waiting ends and SIGKILL follows at once. */
  force?: AbortSignal;
}

/** For what is to go without any grace. */
export const AT_ONCE = { stopTimeoutMs: 0, interruptTimeoutMs: 0, groupStopTimeoutMs: 0 };

export interface ProcessTree {
  /** The living ones; remembered, so that one whose parents end later is still the engine's. */
  refresh(): Promise<ProcessEntry[]>;
  /** Every process that was ever found, also those that have ended: what may hold GPU memory. */
  seen(): ReadonlySet<number>;
  /** Ends all processes; returns those that could not be ended within the limits. */
  end(limits: EndLimits): Promise<ProcessEntry[]>;
}

const POLL_MS = 50;

/**
 * The processes of an engine are its leader, the members of its group and session, all their
 * descendants, and on request those that carry its mark in their environment.
 */
export function trackTree(leader: EngineProcess, engineId: string): ProcessTree {
  // Both written by `scan` only.
  const known = new Map<number, string>();
  const seen = new Set<number>();

  const scan = async ({ marks }: { marks: boolean }): Promise<ProcessEntry[]> => {
    const all = await listProcesses();
    if (all.length === 0) return groupWithoutProc(leader);
    const living = all.filter((entry) => entry.state !== "Z" && entry.pid !== process.pid);
    const found = new Map<number, ProcessEntry>();
    const add = (entry: ProcessEntry) => {
      found.set(entry.pid, entry);
      seen.add(entry.pid);
    };
    // A number is given out again only when no group or session is called so: where a
    // stranger has the leader's, everything that is called like it is the stranger's.
    const isReused = leader.hasExited() && living.some((entry) => entry.pid === leader.pid);
    for (const entry of living) {
      const isLeader = entry.pid === leader.pid && !leader.hasExited();
      const isMember = entry.group === leader.pid || entry.session === leader.pid;
      const isKnown = known.get(entry.pid) === entry.startTime;
      if (isLeader || isKnown || (isMember && !isReused)) add(entry);
      else if (marks && (await engineMarkOf(entry.pid)) === engineId) add(entry);
    }
    for (let before = -1; before !== found.size;) {
      before = found.size;
      for (const entry of living) if (found.has(entry.parent)) add(entry);
    }
    known.clear();
    for (const entry of found.values()) known.set(entry.pid, entry.startTime);
    return [...found.values()];
  };

  const waitUntilGone = async (entries: readonly ProcessEntry[], deadline: AbortSignal) => {
    let left = entries;
    while (left.length > 0 && !deadline.aborted) {
      await sleep(POLL_MS, deadline);
      const still: ProcessEntry[] = [];
      for (const entry of left) if (await isSame(entry)) still.push(entry);
      left = still;
    }
  };

  return {
    refresh: () => scan({ marks: false }),
    seen: () => seen,
    async end({ stopTimeoutMs, interruptTimeoutMs, groupStopTimeoutMs, killTimeoutMs, force }) {
      const until = (ms: number) => {
        const timeout = AbortSignal.timeout(ms);
        return force ? AbortSignal.any([timeout, force]) : timeout;
      };
      await scan({ marks: true });
      if (stopTimeoutMs > 0 && !leader.hasExited() && !force?.aborted) {
        send(leader.pid, "SIGTERM");
        await waitForExit(leader, until(stopTimeoutMs));
        // What waits for its requests without limit after TERM (uvicorn) cuts them off now.
        if (interruptTimeoutMs > 0 && !leader.hasExited() && !force?.aborted) {
          send(leader.pid, "SIGINT");
          await waitForExit(leader, until(interruptTimeoutMs));
        }
      }
      let left = await scan({ marks: true });
      if (left.length > 0 && groupStopTimeoutMs > 0 && !force?.aborted) {
        signalAll(left, leader, "SIGTERM");
        await waitUntilGone(left, until(groupStopTimeoutMs));
        left = await scan({ marks: true });
      }
      const giveUp = AbortSignal.timeout(killTimeoutMs);
      while (left.length > 0 && !giveUp.aborted) {
        signalAll(left, leader, "SIGKILL");
        // Short: a process that was being born meanwhile is found by the next look.
        await waitUntilGone(left, AbortSignal.any([giveUp, AbortSignal.timeout(POLL_MS * 4)]));
        left = await scan({ marks: true });
      }
      if (left.length === 0) await leader.exited;
      return left;
    },
  };
}

/** Settles when the leader has ended or the deadline has passed. */
function waitForExit(leader: EngineProcess, deadline: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (deadline.aborted) return resolve();
    deadline.addEventListener("abort", () => resolve(), { once: true });
    void leader.exited.then(() => resolve());
  });
}

async function isSame(entry: ProcessEntry): Promise<boolean> {
  if (entry.startTime === "") return isAlive(entry.pid);
  const now = await readProcess(entry.pid);
  return now !== null && now.startTime === entry.startTime && now.state !== "Z";
}

/** Where there is no /proc only the group as a whole can be asked for. */
function groupWithoutProc(leader: EngineProcess): ProcessEntry[] {
  const { pid } = leader;
  if (!isAlive(-pid)) return [];
  return [{ pid: -pid, parent: 0, group: pid, session: pid, state: "?", startTime: "" }];
}

function signalAll(
  entries: readonly ProcessEntry[],
  leader: EngineProcess,
  signal: NodeJS.Signals,
): void {
  // The group first and at once: what is signalled one by one could fork in between.
  if (entries.some((entry) => entry.group === leader.pid)) send(-leader.pid, signal);
  for (const entry of entries) if (entry.group !== leader.pid) send(entry.pid, signal);
}

/** To a process, or with a negative number to a group. */
export function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // Gone already, or another user's (behind sudo): what is left shows in the next scan.
    const code = systemCode(error);
    if (code !== "ESRCH" && code !== "EPERM") throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === "EPERM";
  }
}
