/** The proxy behind a port of its own, with one engine and every record kept. */

import type { CancelSignal } from "../../src/proxy/request/client-request.ts";
import type { Server } from "bun";
import { LlmnodeError, messageOf } from "../../src/protocol/errors.ts";
import { createBodyBudget } from "../../src/proxy/request/body.ts";
import { requestIdOf } from "../../src/proxy/request/headers.ts";
import type { LeaseOutcome, ReplicaRequest } from "../../src/protocol/replica-request.ts";
import type { Acquire, Lease } from "../../src/proxy/request/lease.ts";
import { createProxy, PROXY_DEFAULTS, type ProxyOptions } from "../../src/proxy/proxy.ts";
import type { ProxyCall } from "../../src/proxy/request/context.ts";
import type { Origin } from "../../src/proxy/request/origin.ts";
import type { RequestRecord } from "../../src/proxy/record/record.ts";
import { routesAt } from "../../src/proxy/request/routes.ts";
import type { Upstream } from "../../src/util/http/exchange.ts";
import { waitFor } from "../helpers/wait.ts";

export interface Front extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly records: readonly RequestRecord[];
  /** What each lease was given back with. */
  readonly outcomes: readonly LeaseOutcome[];
  /** Bytes of bodies that are held now. */
  readonly heldBytes: number;
  readonly bugs: readonly string[];
  /** Takes running requests away from their engines, which are not given out any more. */
  reschedule(kind: "move" | "fail"): void;
  /** What was asked for at each lease or refusal, in order. */
  readonly wants: readonly ReplicaRequest[];
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  /** The record of the request that ends next. */
  next(): Promise<RequestRecord>;
}

export interface FrontOptions {
  /** Engines in the order in which they are given out. */
  upstreams: readonly Upstream[];
  /** What is to be known of each engine beside, by the same order. */
  engines?: readonly Partial<
    Pick<Lease, "model" | "engineKind" | "maxModelLen" | "explanation" | "died">
  >[];
  /** What a request waits for before it gets an engine. */
  beforeLease?: (signal: CancelSignal) => Promise<void>;
  proxy?: Partial<ProxyOptions>;
  maxBodyBytes?: number;
  maxHeldBytes?: number;
  bodyTimeoutMs?: number;
}

export function startFront(options: FrontOptions): Front {
  const records: RequestRecord[] = [];
  const outcomes: LeaseOutcome[] = [];
  const bugs: string[] = [];
  const wants: ReplicaRequest[] = [];
  const rescheduled = new Set<string>();
  /** Engines that said that they had no room: given out when no other is left. */
  const busy = new Set<number>();
  const responses = new Map<string, Origin>();
  const leases = new Set<Lease>();
  let taken = 0;
  const budget = createBodyBudget(options.maxHeldBytes ?? Number.MAX_SAFE_INTEGER);
  const acquire: Acquire = async (wanted, signal) => {
    wants.push(wanted);
    await options.beforeLease?.(signal);
    const all = options.upstreams;
    const fits = (number: number) =>
      !wanted.exclude.includes(`engine-${number}`) &&
      !rescheduled.has(`engine-${number}`) &&
      (wanted.engineRun === null || wanted.engineRun === `run-${number}`) &&
      (wanted.minContext === null ||
        (options.engines?.[number]?.maxModelLen ?? 0) > wanted.minContext);
    const free = all.findIndex((_, each) => fits(each) && !busy.has(each));
    const number = free !== -1 ? free : all.findIndex((_, each) => fits(each));
    const upstream = all[number];
    if (!upstream) {
      throw new LlmnodeError("no_ready_replica", "none is left", { retryAfterMs: 1000 });
    }
    const lease: Lease = {
      engine: `engine-${number}`,
      engineRun: `run-${number}`,
      engineKind: "vllm",
      worker: `worker-${number}`,
      model: wanted.model ?? "m",
      upstream,
      apiKey: null,
      hostHeader: null,
      maxModelLen: null,
      explanation: null,
      died: () => Promise.resolve(false),
      ...options.engines?.[number],
      onReschedule: null,
      started() {},
      progress() {},
      reading() {},
      release({ outcome }) {
        if (leases.delete(lease)) outcomes.push(outcome);
        if (outcome === "busy") busy.add(number);
      },
    };
    leases.add(lease);
    return lease;
  };
  const proxy = createProxy({
    ...PROXY_DEFAULTS,
    now: () => performance.timeOrigin + performance.now(),
    body: {
      maxBytes: options.maxBodyBytes ?? 64 * 1024 * 1024,
      budget,
      timeoutMs: options.bodyTimeoutMs ?? 10_000,
    },
    onRecord: (record) => void records.push(record),
    origins: {
      find: (id) => responses.get(id) ?? null,
      note: (id, { engineRun, model }) => void responses.set(id, { engineRun, model }),
    },
    acquire,
    ...options.proxy,
  });
  const server: Server<undefined> = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      const route = routesAt(pathname).find(({ method }) => method === request.method);
      if (!route) return new Response("no such route", { status: 404 });
      const call: ProxyCall = {
        path: pathname + search,
        requestId: requestIdOf(request.headers),
        clientAddress: "127.0.0.1",
        caller: { key: null, address: "127.0.0.1", role: "none" },
        worker: null,
        onBug(error) {
          bugs.push(messageOf(error));
          return new LlmnodeError("internal", "a bug");
        },
        complete() {},
        keepOpen() {},
        onEnd() {},
      };
      return proxy(request, call, route);
    },
  });
  const url = `http://127.0.0.1:${server.port}`;
  return {
    url,
    port: server.port ?? 0,
    records,
    outcomes,
    bugs,
    wants,
    get heldBytes() {
      return budget.heldBytes;
    },
    reschedule(kind) {
      for (const lease of leases) {
        rescheduled.add(lease.engine);
        lease.onReschedule?.(kind);
      }
    },
    post: (path, body, init = {}) =>
      fetch(url + path, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...init,
      }),
    async next() {
      const at = taken;
      taken += 1;
      return await waitFor(() => records[at], { what: "the request's record" });
    },
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}
