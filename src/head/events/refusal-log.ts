/** Tells of refused workers once per cause, not once per try. */

import type { Log } from "../../util/log.ts";

export interface RefusalLogOptions {
  log: Log;
  now: () => number;
  /** When the same cause is told again. */
  repeatMs?: number;
  /** How many causes are remembered; the oldest make room. */
  maxCauses?: number;
}

export interface Refused {
  address: string;
  code: string;
  reason: string;
}

/**
 * A cause is an address and a code. Repetitions are for the debug log: then the result is false.
 */
export function createRefusalLog(options: RefusalLogOptions): (refused: Refused) => boolean {
  const { log, now } = options;
  const told = new Map<string, number>();
  return ({ address, code, reason }) => {
    const cause = `${address} ${code}`;
    const at = told.get(cause);
    if (at !== undefined && now() - at < (options.repeatMs ?? 3_600_000)) {
      log.debug("worker refused again", { address, code, reason });
      return false;
    }
    told.delete(cause);
    told.set(cause, now());
    for (const oldest of told.keys()) {
      if (told.size <= (options.maxCauses ?? 1000)) break;
      told.delete(oldest);
    }
    log.warn("worker refused", { address, code, reason });
    return true;
  };
}

/** What the log says of somebody who speaks TLS to a port without it, or the other way round. */
export function mismatchReason(spoke: "tls" | "plain"): string {
  return spoke === "plain"
    ? "it does not speak TLS, this head does: a worker with --insecure?"
    : "it speaks TLS, this head is --insecure: join --insecure, or start the head without it";
}
