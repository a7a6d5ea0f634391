/** An engine that is there and does nothing any more. */

import type { SimOptions } from "./core/options.ts";

type Handler = (req: Request) => Promise<Response>;

export interface Hang {
  /** Lets requests through until it hangs. */
  guard(handle: Handler): Handler;
  /** From now on the time until the hang counts. */
  begin(): void;
  stop(): void;
}

/** `freeze` is called when it begins to hang: what runs is to stand still, not to end. */
export function createHang(options: SimOptions, freeze: () => void): Hang {
  const { hangAfterMs, hangAfterRequests, healthLies, print } = options;
  let isHung = false;
  let taken = 0;
  let timer: Timer | undefined;

  const hang = (why: string) => {
    if (isHung) return;
    isHung = true;
    freeze();
    print(`llmnode sim: hangs from now on, ${why} (simulated)`);
  };
  return {
    guard: (handle) => async (req) => {
      const isWork = req.method === "POST";
      if (isWork && taken === hangAfterRequests) hang(`after ${taken} requests`);
      if (isWork) taken += 1;
      if (isHung && (isWork || !healthLies)) await untilGone(req.signal);
      return handle(req);
    },
    begin() {
      if (hangAfterMs !== null) {
        timer = setTimeout(() => hang(`after ${hangAfterMs} ms`), hangAfterMs);
      }
    },
    stop: () => clearTimeout(timer),
  };
}

function untilGone(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
