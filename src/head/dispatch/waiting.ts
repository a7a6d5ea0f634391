/** The promises of requests that wait for a replica. */

import type { CancelSignal } from "../../proxy/request/client-request.ts";
import { type DispatchContext, type Grant, take } from "../../cluster/dispatch/dispatch.ts";
import { waitDecision, refusalOf, type Refusal } from "../../cluster/dispatch/explain.ts";
import {
  enter,
  hasWaiting,
  leave,
  serve,
  type Waiter,
  waiters,
} from "../../cluster/state/queue.ts";
import type { Lease } from "../../cluster/state/state.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import { LlmnodeError } from "../../protocol/errors.ts";

export interface WaitingOptions {
  context: () => DispatchContext;
  now: () => number;
  random: () => number;
}

export interface Waiting {
  /** A lease, now or later. Throws LlmnodeError, `client_gone` where the signal aborts. */
  lease(request: ReplicaRequest, signal: CancelSignal): Lease | Promise<Lease>;
  /** To be called when somebody may be served that could not be before; looks a little later. */
  wake(): void;
  /** Lets go of those that have waited long enough or have nothing to wait for any more. */
  tick(): void;
  /** What kept the head from looking has kept everybody from being served. */
  postpone(ms: number): void;
  /** Ends every wait, and all to come. */
  endAll(error: () => LlmnodeError): void;
}

interface Asker {
  resolve(lease: Lease): void;
  reject(error: unknown): void;
}

export function createWaiting(options: WaitingOptions): Waiting {
  const { context, now, random } = options;
  const askers = new Map<number, Asker>();
  const { queue, limits } = context().state;
  let waking = false;

  const end = (waiter: Waiter, tell: (asker: Asker) => void): void => {
    const asker = askers.get(waiter.id);
    askers.delete(waiter.id);
    if (asker) tell(asker);
  };
  const settle = (waiter: Waiter, grant: Grant): void =>
    end(waiter, (asker) => {
      if (grant.granted) asker.resolve(grant.lease);
      else asker.reject(errorOf(grant));
    });
  const refuse = (waiter: Waiter, refusal: Refusal): void => {
    leave(queue, waiter);
    settle(waiter, { granted: false, waits: false, ...refusal });
  };
  const pump = (): void => {
    waking = false;
    if (queue.size === 0) return;
    const decisions = context();
    const at = { now: now(), random };
    serve(queue, (waiter) => {
      try {
        const grant = take(decisions, waiter.request, at);
        if (grant !== null) settle(waiter, grant);
        return grant !== null;
      } catch (error) {
        // A bug: it is this request's, not that of whoever made us look.
        end(waiter, (asker) => asker.reject(error));
        return true;
      }
    });
  };
  const wake = (): void => {
    // What happens in one turn is looked at once, and not from within what happens.
    if (waking || queue.size === 0) return;
    waking = true;
    queueMicrotask(pump);
  };

  const wait = (request: ReplicaRequest, signal: CancelSignal): Promise<Lease> => {
    if (signal.aborted) throw clientGone();
    const { promise, resolve, reject } = Promise.withResolvers<Lease>();
    const { waiter, shed } = enter(queue, request, { now: now(), limits });
    const gone = () => {
      if (leave(queue, waiter)) askers.delete(waiter.id);
      reject(clientGone());
    };
    const done = () => signal.removeEventListener("abort", gone);
    signal.addEventListener("abort", gone, { once: true });
    askers.set(waiter.id, {
      resolve(lease) {
        done();
        resolve(lease);
      },
      reject(error) {
        done();
        reject(error);
      },
    });
    for (const other of shed) {
      const message = "Too many requests wait for this model.";
      settle(other, {
        granted: false,
        waits: false,
        code: "queue_full",
        message,
        retryAfterMs: FULL_RETRY_MS,
      });
    }
    wake();
    return promise;
  };

  return {
    lease(request, signal) {
      const decisions = context();
      // Nobody goes past those who wait for the same.
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
      pump();
      const decisions = context();
      const at = now();
      const waitDecisions = new Map<string, ReturnType<typeof waitDecision>>();
      for (const waiter of [...waiters(queue)]) {
        const key = `${waiter.group} ${waiter.kind}`;
        const ahead = waitDecisions.get(key) ?? waitDecision(decisions, waiter.request, at);
        waitDecisions.set(key, ahead);
        if (ahead.waits && at < ahead.until(waiter.since)) continue;
        refuse(waiter, refusalOf(decisions, waiter.request, at));
      }
    },
    postpone(ms) {
      for (const waiter of waiters(queue)) waiter.since += ms;
    },
    endAll(error) {
      for (const waiter of [...waiters(queue)]) {
        leave(queue, waiter);
        end(waiter, (asker) => asker.reject(error()));
      }
    },
  };
}

/** After how long one that found no place may find one. */
const FULL_RETRY_MS = 2000;

function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client closed the connection.");
}

function errorOf({ code, message, retryAfterMs }: Refusal): LlmnodeError {
  return new LlmnodeError(code, message, retryAfterMs === null ? {} : { retryAfterMs });
}
