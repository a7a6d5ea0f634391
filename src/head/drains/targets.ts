/** Which workers and engines operators mean, by exact names. */

import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";

export interface Target {
  worker: Worker;
  /** Null: the worker as a whole. */
  engine: Engine | null;
}

/** By name or id. Throws `not_found`. */
export function findWorker(state: ClusterState, wanted: string): Worker {
  for (const worker of state.workers.values()) {
    if (worker.id === wanted || worker.name === wanted) return worker;
  }
  throw new LlmnodeError("not_found", `there is no worker ${cleanLine(wanted, 80)}`);
}

/** The worker, and its engine: its only one, or the one after the slash. Throws also `refused`. */
export function restartTarget(
  state: ClusterState,
  wanted: string,
): { worker: Worker; engine: Engine } {
  const [, name = wanted, number = null] = /^(.+)\/(\d+)$/.exec(wanted) ?? [];
  const worker = findWorker(state, name);
  const engines = [...worker.engines.values()];
  const engine = number === null ? engines[0] : worker.engines.get(number);
  if (!engine) {
    const what = number === null ? "has no engine" : `has no engine ${number}`;
    throw new LlmnodeError("not_found", `${worker.name} ${what}`);
  }
  const why = obstacle({ state, worker, engine });
  if (why !== null) throw new LlmnodeError("refused", why);
  if (number === null && engines.length > 1) {
    const all = engines.map((one) => `${worker.name}/${one.number}`).join(", ");
    throw new LlmnodeError("refused", `${worker.name} has several engines: name one of ${all}`);
  }
  return { worker, engine };
}

function obstacle(target: { state: ClusterState; worker: Worker; engine: Engine }): string | null {
  const { state, worker, engine } = target;
  const { name } = worker;
  if (worker.left || worker.state === "lost") return `${name} is ${worker.state}`;
  if (worker.drain !== null) return `${name} is about to leave: ${worker.drain}`;
  const order = state.drainOrders.get(worker.id);
  if (order?.purpose === "drain") {
    return `${name} is drained (${order.who}); take that back first: llmnode undrain ${name}`;
  }
  const isOthers =
    engine.report.state === "ready" &&
    engine.report.pid === null &&
    engine.report.container === null;
  if (isOthers) return `the engine of ${name} was not started by its worker, which only watches it`;
  return null;
}
