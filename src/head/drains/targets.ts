/** Which engines operators mean, and why one cannot be restarted. */

import { workerNamed } from "../../cluster/state/named.ts";
import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";

export interface Target {
  worker: Worker;
  /** Null: the worker as a whole. */
  engine: Engine | null;
}

/** The worker, and its engine: its only one, or the one after the slash. Throws `worker_not_found`, `not_found`, `refused`. */
export function restartTarget(
  state: ClusterState,
  wanted: string,
): { worker: Worker; engine: Engine } {
  const [, name = wanted, number = null] = /^(.+)\/(\d+)$/.exec(wanted) ?? [];
  const worker = workerNamed(state, name);
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
  if (worker.drain !== null) return `${name} is leaving: ${worker.drain}`;
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
