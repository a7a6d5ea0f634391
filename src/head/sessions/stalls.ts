/** Watches for engines that produce nothing any more, and has their workers examine them. */

import { stallTick } from "../../cluster/dispatch/stall.ts";
import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import type { Examine, HeadMessage } from "../../protocol/messages.ts";
import type { Log } from "../../util/log.ts";
import type { OnTick } from "../../util/sleep.ts";

interface StallWatchOptions {
  state: ClusterState;
  /** Every `limits.tickIntervalMs`. */
  onTick: OnTick;
  now: () => number;
  log: Log;
  /** Sends a message to a worker; false: that is not possible now. */
  send: (worker: Worker, message: HeadMessage) => boolean;
  onSuspicion: (worker: Worker, engine: Engine, isSuspect: boolean) => void;
}

/** Polls at each tick until it is disposed of. */
export function startStallWatch(options: StallWatchOptions): Disposable {
  const { state, now, log } = options;
  /** The orders that were sent last, and when; only for engines that must be examined. */
  const ordered = new Map<Engine, { worker: Worker; examine: Examine; at: number }>();

  const send = (worker: Worker, examine: Examine) =>
    options.send(worker, { message: "examine", examine });
  const poll = () => {
    const at = now();
    const { suspicions, examinations } = stallTick(state, at);
    for (const { worker, engine, isSuspect, reason } of suspicions) {
      const fields = { engine: `${worker.name}/${engine.number}`, reason };
      if (isSuspect) log.warn("engine is suspect", fields);
      else log.info("engine is no longer suspect", fields);
      options.onSuspicion(worker, engine, isSuspect);
    }
    const present = new Set(examinations.map(({ engine }) => engine));
    for (const [engine, { worker, examine }] of ordered) {
      if (present.has(engine)) continue;
      ordered.delete(engine);
      send(worker, { ...examine, look: false, ask: false });
    }
    for (const { worker, engine, inspect, ask } of examinations) {
      const before = ordered.get(engine);
      const examine = { engine: engine.number, look: inspect, ask };
      const isOld = !before || at - before.at >= state.limits.examineRepeatMs;
      if (!isOld && Bun.deepEquals(before.examine, examine)) continue;
      if (send(worker, examine)) ordered.set(engine, { worker, examine, at });
    }
  };
  return options.onTick(poll);
}
