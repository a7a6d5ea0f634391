/** Waits, before a worker stops, until the head has nothing running on it any more. */

import type { HeartbeatAck } from "../protocol/messages.ts";
import type { Log } from "../util/log.ts";
import { count } from "../util/text.ts";
import type { Link } from "./link.ts";

export interface DrainOptions {
  link: Link;
  /** The head's last word in this session on what runs here. */
  lastAck: () => HeartbeatAck | null;
  log: Log;
  drainTimeoutMs: number;
  drainWithoutHeadMs: number;
  drainPollMs: number;
}

/** Returns when nothing runs, time is over, or `force` aborts. The goodbye is the caller's. */
export async function waitUntilDrained(options: DrainOptions, force?: AbortSignal): Promise<void> {
  const { link, log, lastAck } = options;
  const started = performance.now();
  let asked = link.beat();
  let spoken = false;
  while (!force?.aborted) {
    const waitedMs = performance.now() - started;
    if (!link.connected) {
      if (waitedMs >= options.drainWithoutHeadMs) return;
      // A new session counts its heartbeats anew.
      asked = 0;
    }
    const ack = lastAck();
    // Only what was said after our goodbye tells of all requests there can be.
    if (asked > 0 && ack && ack.sequence >= asked) {
      if (ack.inFlight === 0) return;
      if (!spoken) log.info(`draining ${count(ack.inFlight, "request")}`);
      spoken = true;
    }
    if (waitedMs >= options.drainTimeoutMs) {
      log.warn(`${count(ack?.inFlight ?? 0, "request")} did not end in time`);
      return;
    }
    await Bun.sleep(options.drainPollMs);
    const sequence = link.beat();
    asked ||= sequence;
  }
}
