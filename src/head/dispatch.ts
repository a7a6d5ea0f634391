/** Drives the pure dispatch of `cluster/`: the clock, the tick, and the promises of requests. */

import { type Catalog, createCatalogReader } from "../cluster/catalog.ts";
import { acquire, type Recall, recalls, release, started } from "../cluster/dispatch.ts";
import { tick, type Transition } from "../cluster/liveness.ts";
import { setRoute } from "../cluster/registry.ts";
import { createRouter } from "../cluster/routing.ts";
import type { ClusterState, Engine, Lease as Held, Worker } from "../cluster/state.ts";
import { LlmnodeError } from "../protocol/errors.ts";
import type { Acquire, Lease, LeaseEnd } from "../proxy/lease.ts";
import { directUpstream } from "../proxy/upstream.ts";
import type { Log } from "../util/log.ts";
import type { LaneSwitch } from "./lane-switch.ts";
import { findWay, type WayOptions } from "./ways.ts";

export interface DispatchOptions {
  state: ClusterState;
  lanes: LaneSwitch;
  way: WayOptions;
  now: () => number;
  random: () => number;
  log: Log;
  /** How often an engine that cannot be reached is tried again. */
  reprobeMs: number;
}

export interface Dispatch extends Disposable {
  acquire: Acquire;
  catalog(): Catalog;
  /** To be called for every change of a worker's state. */
  changed(transition: Transition): void;
  /** Ends every request that still runs, with an error where the client can be told. */
  endAll(): void;
  /** To be called when an engine may be reached in another way than before. */
  findWay(worker: Worker, engine: Engine): void;
}

export function startDispatch(options: DispatchOptions): Dispatch {
  const { state, now, log } = options;
  const catalog = createCatalogReader(state);
  const router = createRouter();
  const context = () => ({ state, catalog: catalog(), router });
  /** The requests that hold a lease, to be told when it is taken back. */
  const holders = new Map<number, Lease>();
  /** Engines whose way is being found out. */
  const probing = new Set<string>();
  let disposed = false;
  let closed = false;

  const look = async (worker: Worker, engine: Engine) => {
    if (probing.has(engine.key)) return;
    probing.add(engine.key);
    const { port, advertise } = engine;
    const route = await findWay(options.way, { worker, engine });
    probing.delete(engine.key);
    if (disposed || state.workers.get(worker.id)?.engines.get(engine.number) !== engine) return;
    // What was tried is not what the engine says now: try that instead.
    if (port !== engine.port || advertise !== engine.advertise) return look(worker, engine);
    const before = engine.route;
    setRoute(state, engine, route);
    const name = `${worker.name}/${engine.number}`;
    if (route.via === "unreachable" && before.via !== "unreachable") {
      log.warn("engine cannot be reached", { engine: name, reason: route.reason });
    } else if (route.via !== before.via && route.via !== "unreachable") {
      const url = route.via === "direct" ? route.url : undefined;
      log.info("engine reached", { engine: name, via: route.via, url });
    }
  };

  const recall = (found: readonly Recall[]) => {
    for (const { lease, kind, reason } of found) {
      log.info("request recalled", { model: lease.model, worker: lease.workerName, kind, reason });
      holders.get(lease.id)?.onRecall?.(kind);
    }
  };

  const timer = setInterval(() => {
    for (const transition of tick(state, now())) changed(transition);
    recall(recalls(context(), now()));
  }, state.limits.tickIntervalMs);

  const reprobe = setInterval(() => {
    options.lanes.tidy();
    for (const worker of state.workers.values()) {
      if (worker.state === "left" || worker.state === "lost") continue;
      for (const engine of worker.engines.values()) {
        const { via } = engine.route;
        if (engine.state === "ready" && (via === "unknown" || via === "unreachable")) {
          void look(worker, engine);
        }
      }
    }
  }, options.reprobeMs);

  const changed = ({ worker, from, to }: Transition) => {
    const fields = { worker: worker.name, from, reason: worker.reason ?? undefined };
    if (to === "stale" || to === "lost") log.warn(`worker ${to}`, fields);
    else log.info(`worker ${to}`, fields);
  };

  const settle = (held: Held, end: LeaseEnd) => {
    holders.delete(held.id);
    release(context(), held, { ...end, now: now() });
    if (end.outcome !== "unreachable") return;
    // A refused connection says that the way is wrong or the engine gone: no request goes there
    // until one or the other is known.
    const worker = state.workers.get(held.workerId);
    const engine = [...(worker?.engines.values() ?? [])].find(({ key }) => key === held.engineKey);
    if (!worker || !engine || engine.route.via === "unknown" || engine.run !== held.engineRun)
      return;
    setRoute(state, engine, { via: "unknown" });
    void look(worker, engine);
  };

  return {
    catalog,
    changed,
    endAll() {
      closed = true;
      for (const lease of [...holders.values()]) lease.onRecall?.("fail");
    },
    findWay: (worker, engine) => void look(worker, engine),
    async acquire(want) {
      if (closed) throw new LlmnodeError("shutting_down", "The head is stopping.");
      const grant = acquire(context(), want, {
        now: now(),
        random: options.random,
      });
      if (!grant.granted) {
        const { code, message, retryAfterMs } = grant;
        throw new LlmnodeError(code, message, retryAfterMs === null ? {} : { retryAfterMs });
      }
      const held = grant.lease;
      let released = false;
      const lease: Lease = {
        engine: held.engineKey,
        engineRun: held.engineRun,
        engineKind: held.engineKind,
        model: held.model,
        worker: held.workerName,
        upstream: held.url === null ? options.lanes.upstream(held) : directUpstream(held.url),
        // By lane the worker adds the engine's key and `Host` itself.
        apiKey: held.url === null ? null : held.apiKey,
        hostHeader: held.url === null ? null : held.hostHeader,
        explanation: held.explanation,
        onRecall: null,
        started: () => started(context(), held, now()),
        progress() {
          held.progressAt = now();
        },
        reading(isReading) {
          held.reading = isReading;
        },
        release(end) {
          if (released) return;
          released = true;
          settle(held, end);
        },
      };
      holders.set(held.id, lease);
      return lease;
    },
    [Symbol.dispose]() {
      disposed = true;
      clearInterval(timer);
      clearInterval(reprobe);
    },
  };
}
