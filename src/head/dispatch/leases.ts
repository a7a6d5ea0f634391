/** The leases that requests hold: what a request says of its own reaches the cluster's state. */

import { type DispatchContext, release, started } from "../../cluster/dispatch/dispatch.ts";
import type { Reschedule } from "../../cluster/dispatch/reschedules.ts";
import { setRoute } from "../../cluster/state/registry.ts";
import type { ClusterState, Lease as Held } from "../../cluster/state/state.ts";
import type { LeaseEnd } from "../../protocol/replica-request.ts";
import type { Lease } from "../../proxy/request/lease.ts";
import { directUpstream } from "../../proxy/request/upstream.ts";
import type { LaneSwitch } from "../transport/lane-switch.ts";
import type { Deaths } from "./deaths.ts";
import type { RouteFinder } from "./route-finder.ts";
import type { Waiting } from "./waiting.ts";

interface LeasesOptions {
  state: ClusterState;
  now: () => number;
  context: () => DispatchContext;
  lanes: LaneSwitch;
  waiting: Waiting;
  deaths: Deaths;
  routes: RouteFinder;
}

export interface Leases {
  /** The lease as its request sees it; it is told when it must leave its replica. */
  open(held: Held): Lease;
  reschedule(held: Held, kind: Reschedule["kind"]): void;
  /** Fails every request that holds one. */
  failAll(): void;
}

export function createLeases(options: LeasesOptions): Leases {
  const { now, context, lanes, waiting, deaths } = options;
  const held = new Map<number, Lease>();

  const close = (lease: Held, end: LeaseEnd) => {
    held.delete(lease.id);
    const { outcome, promptTokens, cachedTokens, retryAfterMs } = end;
    release(context(), lease, { outcome, promptTokens, cachedTokens, retryAfterMs, now: now() });
    deaths.poll();
    waiting.wake();
    if (end.outcome === "unreachable") distrustRoute(options, lease);
  };
  const leaseOf = (one: Held): Lease => {
    let released = false;
    return {
      engine: one.engineKey,
      engineRun: one.engineRun,
      engineKind: one.engineKind,
      model: one.model,
      worker: one.workerName,
      upstream: one.url === null ? lanes.upstream(one) : directUpstream(one.url),
      // By lane the worker adds the engine's key and `Host` itself.
      apiKey: one.url === null ? null : one.apiKey,
      hostHeader: one.url === null ? null : one.hostHeader,
      maxModelLen: one.maxModelLen,
      explanation: one.explanation,
      onReschedule: null,
      started() {
        started(context(), one, now());
        waiting.wake();
      },
      progress() {
        one.progressAt = now();
      },
      reading(isReading) {
        one.reading = isReading;
      },
      died: () => deaths.died(one),
      release(end) {
        if (released) return;
        released = true;
        close(one, end);
      },
    };
  };
  return {
    open(one) {
      const lease = leaseOf(one);
      held.set(one.id, lease);
      return lease;
    },
    reschedule: ({ id }, kind) => held.get(id)?.onReschedule?.(kind),
    failAll() {
      for (const lease of [...held.values()]) lease.onReschedule?.("fail");
    },
  };
}

/**
 * A refused connection says that the route is wrong or the engine gone: no request goes there until
 * one or the other is known.
 */
function distrustRoute({ state, routes }: LeasesOptions, lease: Held): void {
  const worker = state.workers.get(lease.workerId);
  const engine = worker?.engines.get(lease.engineNumber);
  if (!worker || !engine || engine.report.run !== lease.engineRun) return;
  if (engine.route.via === "unknown") return;
  setRoute(state, engine, { via: "unknown" });
  routes.check(worker, engine);
}
