/** Comments in a silent stream of events, as llama-server and TGI send them. */

import type { Pacer } from "../core/pacer.ts";

/** An event-stream comment without text, which clients skip. */
const COMMENT = ":\n\n";

export interface KeepAlive {
  /** Something else was sent just now. */
  sent(): void;
  stop(): void;
}

/** Sends a comment whenever nothing was sent for `intervalMs`, from now until it is stopped. */
export function createKeepAlive(
  pacer: Pacer,
  intervalMs: number,
  send: (comment: string) => void,
): KeepAlive {
  let sentAt = performance.now();
  const step = (now: number): number => {
    if (now >= sentAt + intervalMs) {
      send(COMMENT);
      sentAt = now;
    }
    return sentAt + intervalMs;
  };
  pacer.start(step, sentAt + intervalMs);
  return {
    sent() {
      sentAt = performance.now();
    },
    stop: () => pacer.cancel(step),
  };
}
