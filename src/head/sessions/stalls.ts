/** Watches for engines out of which nothing comes any more, and has their workers examine them. */

import { stallTick } from "../../cluster/dispatch/stall.ts";
import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import type { Examine, HeadMessage } from "../../protocol/messages.ts";
import type { Log } from "../../util/log.ts";

export interface StallWatchOptions {
  state: ClusterState;
  now: () => number;
  log: Log;
  /** Says something to a worker; false: it cannot be told now. */
  tell: (worker: Worker, message: HeadMessage) => boolean;
  onSuspicion: (worker: Worker, engine: Engine, isSuspect: boolean) => void;
}

/** Looks every `limits.tickIntervalMs` until it is disposed of. */
export function startStallWatch(options: StallWatchOptions): Disposable {
  const { state, now, log, tell } = options;
  /** What workers were told last, and when; only of engines that are to be examined. */
  const told = new Map<Engine, { worker: Worker; examine: Examine; at: number }>();

  const send = (worker: Worker, examine: Examine) => tell(worker, { message: "examine", examine });
  const look = () => {
    const at = now();
    const { suspicions, examinations } = stallTick(state, at);
    for (const { worker, engine, isSuspect, reason } of suspicions) {
      const fields = { engine: `${worker.name}/${engine.number}`, reason };
      if (isSuspect) log.warn("engine is suspect", fields);
      else log.info("engine is not suspect any more", fields);
      options.onSuspicion(worker, engine, isSuspect);
    }
    const present = new Set(examinations.map(({ engine }) => engine));
    for (const [engine, { worker, examine }] of told) {
      if (present.has(engine)) continue;
      told.delete(engine);
      send(worker, { ...examine, look: false, ask: false });
    }
    for (const { worker, engine, look: looks, ask: asks } of examinations) {
      const before = told.get(engine);
      const examine = { engine: engine.number, look: looks, ask: asks };
      const isOld = !before || at - before.at >= state.limits.examineRepeatMs;
      if (!isOld && Bun.deepEquals(before.examine, examine)) continue;
      if (send(worker, examine)) told.set(engine, { worker, examine, at });
    }
  };
  const timer = setInterval(look, state.limits.tickIntervalMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
