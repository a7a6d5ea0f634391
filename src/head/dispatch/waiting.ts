/** The promises of requests that wait for a replica. */

import type { CancelSignal } from "../../proxy/request/client-request.ts";
import { type DispatchContext, type Grant, take } from "../../cluster/dispatch/dispatch.ts";
import {
  type Refusal,
  refusalOf,
  type WaitDecision,
  waitDecision,
} from "../../cluster/dispatch/explain.ts";
import {
  enter,
  hasWaiting,
  leave,
  type Queue,
  serve,
  type Waiter,
  waiters,
} from "../../cluster/state/queue.ts";
import type { Lease } from "../../cluster/state/state.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import { LlmnodeError } from "../../protocol/errors.ts";

interface WaitingOptions {
  context: () => DispatchContext;
  now: () => number;
  random: () => number;
}

export interface Waiting {
  /** A lease, now or later. Throws LlmnodeError, `client_gone` where the signal aborts. */
  lease(request: ReplicaRequest, signal: CancelSignal): Lease | Promise<Lease>;
  /** To be called when a request may be served that could not be before; that is tried a little later. */
  wake(): void;
  /** Refuses those that have waited long enough or have nothing to wait for any more. */
  tick(): void;
  /** What held the head up for so long does not count as their waiting. */
  postpone(ms: number): void;
  /** Ends every wait, and all to come. */
  endAll(error: () => LlmnodeError): void;
}

export function createWaiting(options: WaitingOptions): Waiting {
  const { context, now, random } = options;
  const { queue, limits } = context().state;
  const promises = createPromises(queue);
  let waking = false;

  const serveAll = (): void => {
    waking = false;
    if (queue.size === 0) return;
    const decisions = context();
    const at = { now: now(), random };
    serve(queue, (waiter) => {
      try {
        const grant = take(decisions, waiter.request, at);
        if (grant !== null) promises.settle(waiter, grant);
        return grant !== null;
      } catch (error) {
        // A bug: it is this request's, not that of the caller.
        promises.fail(waiter, error);
        return true;
      }
    });
  };
  const wake = (): void => {
    // What happens in one turn is handled at once, and not from within what happens.
    if (waking || queue.size === 0) return;
    waking = true;
    queueMicrotask(serveAll);
  };
  const wait = (request: ReplicaRequest, signal: CancelSignal): Promise<Lease> => {
    if (signal.aborted) throw clientGone();
    const { waiter, shed } = enter(queue, request, { now: now(), limits });
    const lease = promises.add(waiter, signal);
    for (const other of shed) promises.settle(other, QUEUE_FULL);
    wake();
    return lease;
  };

  return {
    lease(request, signal) {
      const decisions = context();
      // No request overtakes those that wait for the same.
      if (hasWaiting(queue, request)) return wait(request, signal);
      const grant = take(decisions, request, { now: now(), random });
      if (grant?.granted) return grant.lease;
      if (grant !== null) throw errorOf(grant);
      if (waitDecision(decisions, request, now()).waits) return wait(request, signal);
      throw errorOf(refusalOf(decisions, request, now()));
    },
    wake,
    tick() {
      if (queue.size === 0) return;
      serveAll();
      const decisions = context();
      const at = now();
      const byGroup = new Map<string, WaitDecision>();
      for (const waiter of [...waiters(queue)]) {
        const key = `${waiter.group} ${waiter.kind}`;
        const decision = byGroup.get(key) ?? waitDecision(decisions, waiter.request, at);
        byGroup.set(key, decision);
        if (decision.waits && at < decision.until(waiter.since)) continue;
        leave(queue, waiter);
        promises.fail(waiter, errorOf(refusalOf(decisions, waiter.request, at)));
      }
    },
    postpone(ms) {
      for (const waiter of waiters(queue)) waiter.since += ms;
    },
    endAll(error) {
      for (const waiter of [...waiters(queue)]) {
        leave(queue, waiter);
        promises.fail(waiter, error());
      }
    },
  };
}

interface Pending extends PromiseWithResolvers<Lease> {
  signal: CancelSignal;
  gone: () => void;
}

/** What the requests in the queue wait for, by waiter. */
function createPromises(queue: Queue) {
  const pending = new Map<number, Pending>();
  const remove = ({ id }: Waiter): Pending | undefined => {
    const found = pending.get(id);
    pending.delete(id);
    found?.signal.removeEventListener("abort", found.gone);
    return found;
  };
  return {
    /** Leaves the queue and rejects when the client goes. */
    add(waiter: Waiter, signal: CancelSignal): Promise<Lease> {
      const wait = Promise.withResolvers<Lease>();
      const gone = () => {
        if (leave(queue, waiter)) pending.delete(waiter.id);
        wait.reject(clientGone());
      };
      signal.addEventListener("abort", gone, { once: true });
      pending.set(waiter.id, { ...wait, signal, gone });
      return wait.promise;
    },
    settle(waiter: Waiter, grant: Grant): void {
      if (grant.granted) remove(waiter)?.resolve(grant.lease);
      else remove(waiter)?.reject(errorOf(grant));
    },
    fail: (waiter: Waiter, error: unknown) => remove(waiter)?.reject(error),
  };
}

const QUEUE_FULL: Grant = {
  granted: false,
  waits: false,
  code: "queue_full",
  message: "Too many requests wait for this model.",
  // By then one that found no place may find one.
  retryAfterMs: 2000,
};

function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client closed the connection.");
}

function errorOf({ code, message, retryAfterMs }: Refusal): LlmnodeError {
  return new LlmnodeError(code, message, retryAfterMs === null ? {} : { retryAfterMs });
}
