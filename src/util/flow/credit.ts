/** Sends bytes no faster than the other side allows: credit that is spent, awaited and given back. */

import { createNotifier } from "./notifier.ts";

export interface Credit {
  /** Bytes that may be sent now. */
  readonly available: number;
  /** Takes up to `wanted` bytes of credit, waiting until there is some; 0 once it is closed. */
  take(wanted: number): Promise<number>;
  give(bytes: number): void;
  /** Ends every wait. */
  close(): void;
}

/** One taker at a time. */
export function createCredit(initialBytes: number): Credit {
  let available = initialBytes;
  let closed = false;
  const { wait, notify } = createNotifier();
  return {
    get available() {
      return available;
    },
    async take(wanted) {
      while (available === 0 && !closed) await wait();
      if (closed) return 0;
      const taken = Math.min(wanted, available);
      available -= taken;
      return taken;
    },
    give(bytes) {
      available += bytes;
      notify();
    },
    close() {
      closed = true;
      notify();
    },
  };
}
