/** Drives the pure dispatch of `cluster/`: the clock, the tick, and the promises of requests. */

import { takeRetry } from "../../cluster/faults/budget.ts";
import { createCatalogReader, findReplicas } from "../../cluster/state/catalog.ts";
import { foreignLoad } from "../../cluster/state/overload.ts";
import type { DispatchContext } from "../../cluster/dispatch/dispatch.ts";
import { tick, type Transition } from "../../cluster/liveness/liveness.ts";
import { type Reschedule, reschedules } from "../../cluster/dispatch/reschedules.ts";
import type { RouteSettings } from "../../cluster/routing/policies.ts";
import { createRouter, type Router } from "../../cluster/routing/routing.ts";
import type { Catalog, ClusterState, Engine, Worker } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Acquire, Lease } from "../../proxy/request/lease.ts";
import type { HttpClient } from "../../util/http/client.ts";
import type { Log } from "../../util/log.ts";
import type { OnTick } from "../../util/sleep.ts";
import { createDeaths } from "./deaths.ts";
import type { EventNotes } from "../events/notes.ts";
import { createLeases } from "./leases.ts";
import { createWaiting } from "./waiting.ts";
import { startRouteFinder } from "./route-finder.ts";
import type { LaneSwitch } from "../transport/lane-switch.ts";
import type { RouteOptions } from "../transport/upstream-route.ts";

interface DispatchOptions {
  state: ClusterState;
  lanes: LaneSwitch;
  /** What reaches engines directly. */
  http: HttpClient;
  route: RouteOptions;
  /** Every `limits.tickIntervalMs`. */
  onTick: OnTick;
  now: () => number;
  random: () => number;
  log: Log;
  /** How often an engine that cannot be reached is tried again. */
  reprobeMs: number;
  routing?: RouteSettings;
  /** Records events for people. */
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
  onTransition(transition: Transition): void;
  /** To be called after every message of a worker: requests may have waited for it. */
  onReport(): void;
  /** Ends every request that still runs or waits, with an error where the client can be told. */
  endAll(): void;
  /** To be called when an engine may be reached by another route than before. */
  checkRoute(worker: Worker, engine: Engine): void;
}

export function startDispatch(options: DispatchOptions): Dispatch {
  const { state, now, random, log, lanes, http, notes } = options;
  using stack = new DisposableStack();
  const catalog = createCatalogReader(state);
  const router = createRouter({
    ...options.routing,
    foreignLoad: (engine, at) => foreignLoad(state, engine, at),
  });
  const context = contextOf(state, catalog, router);
  const waiting = createWaiting({ context, now, random });
  const deaths = stack.use(createDeaths({ state, log }));
  const { route, reprobeMs } = options;
  const routes = stack.use(
    startRouteFinder({ state, log, route, reprobeMs, onFound: waiting.wake }),
  );
  const leases = createLeases({ state, now, context, lanes, http, waiting, deaths, routes });
  let closed = false;

  const onReport = () => {
    deaths.poll();
    waiting.wake();
  };
  const onTransition = (transition: Transition) => {
    logTransition(log, transition);
    notes?.transition(transition);
    onReport();
  };
  const reschedule = (found: readonly Reschedule[]) => {
    notes?.reschedules(found);
    for (const { lease, kind, reason } of found) {
      const { model, workerName: worker } = lease;
      log.info("request rescheduled", { model, worker, kind, reason });
      leases.reschedule(lease, kind);
    }
  };
  const poll = () => {
    const lateMs = now() - state.lastTickAt - state.limits.tickIntervalMs;
    if (lateMs > state.limits.tickIntervalMs) waiting.postpone(lateMs);
    leases.noteProgress(now());
    for (const transition of tick(state, now())) onTransition(transition);
    if (state.leases.size > 0) reschedule(reschedules(context(), now()));
    deaths.poll();
    waiting.tick();
  };
  stack.use(options.onTick(poll));
  const tidy = setInterval(() => lanes.tidy(), reprobeMs);
  stack.defer(() => clearInterval(tidy));

  const disposables = stack.move();
  return {
    catalog,
    prefixMatters(model) {
      const replicas = findReplicas(catalog(), model);
      return replicas.length > 1 && router.usesPrefixes(replicas[0]?.card.id ?? model);
    },
    affinity: router.affinity,
    onTransition,
    onReport,
    mayRetry: () => takeRetry(state.retries, now()),
    endAll() {
      closed = true;
      waiting.endAll(stopping);
      leases.failAll();
    },
    checkRoute: routes.check,
    acquire(request, signal) {
      if (closed) throw stopping();
      const taken = waiting.lease(request, signal);
      if (!(taken instanceof Promise)) return leases.open(taken);
      return taken.then((granted) =>
        closed ? tooLate(leases.open(granted)) : leases.open(granted),
      );
    },
    [Symbol.dispose]: () => disposables.dispose(),
  };
}

/** What decides, at the call: the same object as long as the catalog is. */
function contextOf(state: ClusterState, catalog: () => Catalog, router: Router) {
  let current: DispatchContext = { state, catalog: catalog(), router };
  return (): DispatchContext => {
    const now = catalog();
    if (now !== current.catalog) current = { state, catalog: now, router };
    return current;
  };
}

function logTransition(log: Log, { worker, from, to }: Transition): void {
  const fields = { worker: worker.name, from, reason: worker.reason ?? undefined };
  if (to === "stale" || to === "lost") log.warn(`worker ${to}`, fields);
  else log.info(`worker ${to}`, fields);
}

/** The head began to stop while the request waited. */
function tooLate(lease: Lease): never {
  const unknown = { promptTokens: null, cachedTokens: null, retryAfterMs: null };
  lease.release({ outcome: "rescheduled", ...unknown });
  throw stopping();
}

function stopping(): LlmnodeError {
  return new LlmnodeError("shutting_down", "The head is stopping.", { retryAfterMs: 1000 });
}
