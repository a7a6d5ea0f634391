/** Keeps the upstream route of each engine: resolved when it may have changed, and again while it fails. */

import { setRoute } from "../../cluster/state/registry.ts";
import type { ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import type { Log } from "../../util/log.ts";
import { resolveRoute, type RouteOptions } from "../transport/upstream-route.ts";

interface RouteFinderOptions {
  state: ClusterState;
  route: RouteOptions;
  log: Log;
  /** How often an engine that cannot be reached is tried again. */
  reprobeMs: number;
  /** Called each time that a route was resolved, be it as unreachable. */
  onFound: () => void;
}

export interface RouteFinder extends Disposable {
  /** Resolves the route to the engine, in the background. */
  check(worker: Worker, engine: Engine): void;
}

export function startRouteFinder(options: RouteFinderOptions): RouteFinder {
  const { state, log } = options;
  const probing = new Set<string>();
  let disposed = false;

  const check = async (worker: Worker, engine: Engine): Promise<void> => {
    if (probing.has(engine.key)) return;
    probing.add(engine.key);
    const { port, advertise } = engine.report;
    const route = await resolveRoute(options.route, { worker, engine });
    probing.delete(engine.key);
    if (disposed || state.workers.get(worker.id)?.engines.get(engine.number) !== engine) return;
    // The engine has reported another address meanwhile: try that instead.
    const reported = engine.report;
    if (port !== reported.port || advertise !== reported.advertise) return check(worker, engine);
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
          void check(worker, engine);
        }
      }
    }
  }, options.reprobeMs);

  return {
    check: (worker, engine) => void check(worker, engine),
    [Symbol.dispose]() {
      disposed = true;
      clearInterval(timer);
    },
  };
}
