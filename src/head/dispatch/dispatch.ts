/** Drives the pure dispatch of `cluster/`: the clock, the tick, and the promises of requests. */

import type { LeaseEnd } from "../../protocol/replica-request.ts";
import { takeRetry } from "../../cluster/faults/budget.ts";
import { createCatalogReader, findReplicas } from "../../cluster/state/catalog.ts";
import { release, started } from "../../cluster/dispatch/dispatch.ts";
import { foreignLoad } from "../../cluster/state/overload.ts";
import { tick, type Transition } from "../../cluster/liveness/liveness.ts";
import { type Reschedule, reschedules } from "../../cluster/dispatch/reschedules.ts";
import { setRoute } from "../../cluster/state/registry.ts";
import type { RouteSettings } from "../../cluster/routing/policies.ts";
import { createRouter, type Router } from "../../cluster/routing/routing.ts";
import type {
  Catalog,
  ClusterState,
  Engine,
  Lease as Held,
  Worker,
} from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Acquire, Lease } from "../../proxy/request/lease.ts";
import { directUpstream } from "../../proxy/request/upstream.ts";
import type { Log } from "../../util/log.ts";
import { createDeaths } from "./deaths.ts";
import type { EventNotes } from "../events/notes.ts";
import { createWaiting } from "./waiting.ts";
import { startWayFinder } from "./ways.ts";
import type { LaneSwitch } from "../transport/lane-switch.ts";
import type { WayOptions } from "../transport/ways.ts";

export interface DispatchOptions {
  state: ClusterState;
  lanes: LaneSwitch;
  way: WayOptions;
  now: () => number;
  random: () => number;
  log: Log;
  /** How often an engine that cannot be reached is tried again. */
  reprobeMs: number;
  routing?: RouteSettings;
  /** Tells of what people may want to know. */
  notes?: Pick<EventNotes, "transition" | "reschedules">;
}

export interface Dispatch extends Disposable {
  acquire: Acquire;
  /** Whether one more request may be tried again; counts it where it may. */
  mayRetry(): boolean;
  catalog(): Catalog;
  /** Whether it matters what the prompts for a model begin with. */
  prefixMatters(model: string): boolean;
  /** What became of prompts that replicas had in their caches, by model. */
  affinity: Router["affinity"];
  /** To be called for every change of a worker's state. */
  changed(transition: Transition): void;
  /** To be called after all that a worker tells: requests may have waited for it. */
  told(): void;
  /** Ends every request that still runs or waits, with an error where the client can be told. */
  endAll(): void;
  /** To be called when an engine may be reached in another way than before. */
  findWay(worker: Worker, engine: Engine): void;
}

export function startDispatch(options: DispatchOptions): Dispatch {
  const { state, now, random, log } = options;
  using stack = new DisposableStack();
  const catalog = createCatalogReader(state);
  const router = createRouter({
    ...options.routing,
    foreignLoad: (engine, at) => foreignLoad(state, engine, at),
  });
  const context = () => ({ state, catalog: catalog(), router });
  const waiting = createWaiting({ context, now, random });
  const deaths = stack.use(createDeaths({ state, log }));
  const told = () => {
    deaths.look();
    waiting.wake();
  };
  const ways = stack.use(
    startWayFinder({
      state,
      log,
      way: options.way,
      reprobeMs: options.reprobeMs,
      onFound: waiting.wake,
    }),
  );
  /** The requests that hold a lease, to be told when it is taken back. */
  const holders = new Map<number, Lease>();
  let closed = false;

  const changed = ({ worker, from, to }: Transition) => {
    const fields = { worker: worker.name, from, reason: worker.reason ?? undefined };
    if (to === "stale" || to === "lost") log.warn(`worker ${to}`, fields);
    else log.info(`worker ${to}`, fields);
    options.notes?.transition({ worker, from, to });
    told();
  };

  const reschedule = (found: readonly Reschedule[]) => {
    options.notes?.reschedules(found);
    for (const { lease, kind, reason } of found) {
      log.info("request rescheduled", {
        model: lease.model,
        worker: lease.workerName,
        kind,
        reason,
      });
      holders.get(lease.id)?.onReschedule?.(kind);
    }
  };

  const timer = setInterval(() => {
    const lateMs = now() - state.lastTickAt - state.limits.tickIntervalMs;
    if (lateMs > state.limits.tickIntervalMs) waiting.postpone(lateMs);
    for (const transition of tick(state, now())) changed(transition);
    reschedule(reschedules(context(), now()));
    deaths.look();
    waiting.tick();
  }, state.limits.tickIntervalMs);
  stack.defer(() => clearInterval(timer));

  const tidy = setInterval(() => options.lanes.tidy(), options.reprobeMs);
  stack.defer(() => clearInterval(tidy));

  const settle = (held: Held, end: LeaseEnd) => {
    holders.delete(held.id);
    const { outcome, promptTokens, cachedTokens, retryAfterMs } = end;
    release(context(), held, { outcome, promptTokens, cachedTokens, retryAfterMs, now: now() });
    told();
    if (end.outcome !== "unreachable") return;
    // A refused connection says that the way is wrong or the engine gone: no request goes there
    // until one or the other is known.
    const worker = state.workers.get(held.workerId);
    const engine = worker?.engines.get(held.engineNumber);
    if (
      !worker ||
      !engine ||
      engine.route.via === "unknown" ||
      engine.report.run !== held.engineRun
    )
      return;
    setRoute(state, engine, { via: "unknown" });
    ways.look(worker, engine);
  };

  const leaseOf = (held: Held): Lease => {
    let released = false;
    return {
      engine: held.engineKey,
      engineRun: held.engineRun,
      engineKind: held.engineKind,
      model: held.model,
      worker: held.workerName,
      upstream: held.url === null ? options.lanes.upstream(held) : directUpstream(held.url),
      // By lane the worker adds the engine's key and `Host` itself.
      apiKey: held.url === null ? null : held.apiKey,
      hostHeader: held.url === null ? null : held.hostHeader,
      maxModelLen: held.maxModelLen,
      explanation: held.explanation,
      onReschedule: null,
      started: () => {
        started(context(), held, now());
        waiting.wake();
      },
      progress() {
        held.progressAt = now();
      },
      reading(isReading) {
        held.reading = isReading;
      },
      died: () => deaths.died(held),
      release(end) {
        if (released) return;
        released = true;
        settle(held, end);
      },
    };
  };

  const disposables = stack.move();
  return {
    catalog,
    prefixMatters(model) {
      const replicas = findReplicas(catalog(), model);
      return replicas.length > 1 && router.usesPrefixes(replicas[0]?.card.id ?? model);
    },
    affinity: router.affinity,
    changed,
    told,
    mayRetry: () => takeRetry(state.retries, now()),
    endAll() {
      closed = true;
      waiting.endAll(stopping);
      for (const lease of [...holders.values()]) lease.onReschedule?.("fail");
    },
    findWay: ways.look,
    async acquire(request, signal) {
      if (closed) throw stopping();
      // Looked at before the wait is: most requests do not wait.
      const taken = waiting.lease(request, signal);
      const held = taken instanceof Promise ? await taken : taken;
      const lease = leaseOf(held);
      // While it was on its way here.
      if (closed) {
        const unknown = { promptTokens: null, cachedTokens: null, retryAfterMs: null };
        lease.release({ outcome: "rescheduled", ...unknown });
        throw stopping();
      }
      holders.set(held.id, lease);
      return lease;
    },
    [Symbol.dispose]: () => disposables.dispose(),
  };
}

function stopping(): LlmnodeError {
  return new LlmnodeError("shutting_down", "The head is stopping.", { retryAfterMs: 1000 });
}
