/** Says once what the engine serves, and what is wrong with it. */

import type { EngineStatus } from "../engine/status.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";

/** For each change of the status; progress in percent is in the engine's own lines. */
export function createEngineLog(log: Log): (status: EngineStatus) => void {
  let last = "";
  return (status) => {
    const { state, run, kind, url, reason, models } = status;
    const key = JSON.stringify([state, run, reason, models]);
    if (key === last) return;
    last = key;
    if (state === "ready") {
      const names = models.map((model) => model.id).join(", ");
      log.info("engine ready", { kind, url: url ?? undefined, models: cleanLine(names, 500) });
    } else if (state === "unhealthy" || state === "failed") {
      log.warn(`engine ${state}`, { reason: reason ?? undefined });
    }
  };
}
