/** Takes a slot from the worker that runs in it, which leaves its engine running. */

import { LlmnodeError, systemCode } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { findRunning, type Slot, type SlotOptions, takeSlot } from "./identity.ts";

const POLL_MS = 50;

/**
 * Asks the running worker of the same name, or for the same command, to go (SIGUSR2) and takes its
 * slot once it has. Without one, like `takeSlot`. Throws `worker_in_use` when it does not go within
 * `timeoutMs`, and what `takeSlot` throws.
 */
export async function adoptSlot(
  options: SlotOptions,
  { timeoutMs, log }: { timeoutMs: number; log: Log },
): Promise<Slot> {
  const running = findRunning(options);
  if (running === null) {
    const slot = takeSlot(options);
    log.info("no running worker to adopt from: this one starts as usual");
    return slot;
  }
  const { pid } = running;
  ask(pid);
  log.info("asked the running worker to leave its engine to this one", { pid });
  const deadline = performance.now() + timeoutMs;
  while (running.holds()) {
    if (performance.now() >= deadline) {
      throw new LlmnodeError("worker_in_use", `the running worker (pid ${pid}) does not leave`, {
        hints: [`look at its log, or end it together with its engine: kill ${pid}`],
      });
    }
    await Bun.sleep(POLL_MS);
  }
  return takeSlot(options);
}

function ask(pid: number): void {
  try {
    process.kill(pid, "SIGUSR2");
  } catch (error) {
    // Gone this very moment: its slot is free.
    if (systemCode(error) !== "ESRCH") throw error;
  }
}
