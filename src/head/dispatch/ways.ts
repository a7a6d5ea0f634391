/** Finds out how engines are reached, and again where that has stopped to work. */

import { setRoute } from "../../cluster/state/registry.ts";
import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import type { Log } from "../../util/log.ts";
import { findWay, type WayOptions } from "../transport/ways.ts";

export interface WayFinderOptions {
  state: ClusterState;
  way: WayOptions;
  log: Log;
  /** How often an engine that cannot be reached is tried again. */
  reprobeMs: number;
  /** Called each time that a way was found, or found not to be. */
  onFound: () => void;
}

export interface WayFinder extends Disposable {
  look(worker: Worker, engine: Engine): void;
}

export function startWayFinder(options: WayFinderOptions): WayFinder {
  const { state, log } = options;
  const probing = new Set<string>();
  let disposed = false;

  const look = async (worker: Worker, engine: Engine): Promise<void> => {
    if (probing.has(engine.key)) return;
    probing.add(engine.key);
    const { port, advertise } = engine.report;
    const route = await findWay(options.way, { worker, engine });
    probing.delete(engine.key);
    if (disposed || state.workers.get(worker.id)?.engines.get(engine.number) !== engine) return;
    // What was tried is not what the engine says now: try that instead.
    if (port !== engine.report.port || advertise !== engine.report.advertise)
      return look(worker, engine);
    const before = engine.route;
    setRoute(state, engine, route);
    const name = `${worker.name}/${engine.number}`;
    if (route.via === "unreachable" && before.via !== "unreachable") {
      log.warn("engine cannot be reached", { engine: name, reason: route.reason });
    } else if (route.via !== before.via && route.via !== "unreachable") {
      const url = route.via === "direct" ? route.url : undefined;
      log.info("engine reached", { engine: name, via: route.via, url });
    }
    options.onFound();
  };

  const timer = setInterval(() => {
    for (const worker of state.workers.values()) {
      if (worker.state === "left" || worker.state === "lost") continue;
      for (const engine of worker.engines.values()) {
        const { via } = engine.route;
        if (engine.report.state === "ready" && (via === "unknown" || via === "unreachable")) {
          void look(worker, engine);
        }
      }
    }
  }, options.reprobeMs);

  return {
    look: (worker, engine) => void look(worker, engine),
    [Symbol.dispose]() {
      disposed = true;
      clearInterval(timer);
    },
  };
}
