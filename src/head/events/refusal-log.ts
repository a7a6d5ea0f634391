/** Logs refused workers once per cause, not once per try. */

import type { Log } from "../../util/log.ts";

interface RefusalLogOptions {
  log: Log;
  now: () => number;
  /** After how long the same cause is logged again. */
  repeatMs?: number;
  /** How many causes are remembered; the oldest make room. */
  maxCauses?: number;
}

export interface Refused {
  address: string;
  code: string;
  reason: string;
}

/** A cause is an address and a code. Repetitions are for the debug log: then the result is false. */
export function createRefusalLog(options: RefusalLogOptions): (refused: Refused) => boolean {
  const { log, now } = options;
  const loggedAt = new Map<string, number>();
  return ({ address, code, reason }) => {
    const cause = `${address} ${code}`;
    const at = loggedAt.get(cause);
    if (at !== undefined && now() - at < (options.repeatMs ?? 3_600_000)) {
      log.debug("worker refused again", { address, code, reason });
      return false;
    }
    loggedAt.delete(cause);
    loggedAt.set(cause, now());
    for (const oldest of loggedAt.keys()) {
      if (loggedAt.size <= (options.maxCauses ?? 1000)) break;
      loggedAt.delete(oldest);
    }
    log.warn("worker refused", { address, code, reason });
    return true;
  };
}

/** Why a connection with TLS to a port without it, or the reverse, is refused. */
export function mismatchReason(spoke: "tls" | "plain"): string {
  return spoke === "plain"
    ? "it does not speak TLS, but this head does: is the worker started with --insecure?"
    : "it speaks TLS, but this head runs with --insecure: join with --insecure, or start the head without it";
}
