/** The leases that requests hold: what a request says of its own reaches the cluster's state. */

import { type DispatchContext, release, started } from "../../cluster/dispatch/dispatch.ts";
import type { Reschedule } from "../../cluster/dispatch/reschedules.ts";
import { setRoute } from "../../cluster/state/registry.ts";
import type { ClusterState, Lease as Held } from "../../cluster/state/state.ts";
import type { LeaseEnd } from "../../protocol/replica-request.ts";
import type { Lease } from "../../proxy/request/lease.ts";
import type { HttpClient } from "../../util/http/client.ts";
import type { Upstream } from "../../util/http/exchange.ts";
import type { LaneSwitch } from "../transport/lane-switch.ts";
import type { Deaths } from "./deaths.ts";
import type { RouteFinder } from "./route-finder.ts";
import type { Waiting } from "./waiting.ts";

interface LeasesOptions {
  state: ClusterState;
  now: () => number;
  context: () => DispatchContext;
  lanes: LaneSwitch;
  /** What reaches engines directly. */
  http: HttpClient;
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
  /** Notes which have moved since the last call: to be called before it matters. */
  noteProgress(now: number): void;
}

export function createLeases(options: LeasesOptions): Leases {
  const held = new Map<number, HeldLease>();
  const shared = { options, held };
  return {
    open(one) {
      const lease = new HeldLease(shared, one);
      held.set(one.id, lease);
      return lease;
    },
    reschedule: ({ id }, kind) => held.get(id)?.onReschedule?.(kind),
    failAll() {
      for (const lease of [...held.values()]) lease.onReschedule?.("fail");
    },
    noteProgress(now) {
      for (const lease of held.values()) lease.noteProgress(now);
    },
  };
}

interface Shared {
  options: LeasesOptions;
  held: Map<number, HeldLease>;
}

class HeldLease implements Lease {
  readonly engine: string;
  readonly engineRun: string;
  readonly engineKind: string;
  readonly model: string;
  readonly worker: string;
  readonly upstream: Upstream;
  readonly apiKey: string | null;
  readonly hostHeader: string | null;
  readonly maxModelLen: number | null;
  readonly explanation: string | null;
  onReschedule: Lease["onReschedule"] = null;
  readonly #shared: Shared;
  readonly #held: Held;
  #isReleased = false;
  #hasMoved = false;

  constructor(shared: Shared, held: Held) {
    const { lanes, http } = shared.options;
    const { url } = held;
    this.#shared = shared;
    this.#held = held;
    this.engine = held.engineKey;
    this.engineRun = held.engineRun;
    this.engineKind = held.engineKind;
    this.model = held.model;
    this.worker = held.workerName;
    this.upstream = url === null ? lanes.upstream(held) : http.at(url);
    // By lane the worker adds the engine's key and `Host` itself.
    this.apiKey = url === null ? null : held.apiKey;
    this.hostHeader = url === null ? null : held.hostHeader;
    this.maxModelLen = held.maxModelLen;
    this.explanation = held.explanation;
  }

  started(): void {
    const { context, now, waiting } = this.#shared.options;
    started(context(), this.#held, now());
    waiting.wake();
  }

  // No clock is read for every piece of an answer.
  progress(): void {
    this.#hasMoved = true;
  }

  noteProgress(now: number): void {
    if (!this.#hasMoved) return;
    this.#hasMoved = false;
    this.#held.progressAt = now;
  }

  reading(isReading: boolean): void {
    this.#held.reading = isReading;
  }

  died(): Promise<boolean> {
    return this.#shared.options.deaths.died(this.#held);
  }

  release({ outcome, promptTokens, cachedTokens, retryAfterMs }: LeaseEnd): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    const { options, held } = this.#shared;
    const { context, now, deaths, waiting } = options;
    held.delete(this.#held.id);
    const end = { outcome, promptTokens, cachedTokens, retryAfterMs, now: now() };
    release(context(), this.#held, end);
    deaths.poll();
    waiting.wake();
    if (outcome === "unreachable") distrustRoute(options, this.#held);
  }
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
