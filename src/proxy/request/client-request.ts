/** The client's request as attempts need it: one that an operator can end as well. */

import { LlmnodeError } from "../../protocol/errors.ts";

/**
 * The part of an AbortSignal that a request needs on its way: a real one for each would cost as much
 * as all of routing.
 */
export interface CancelSignal {
  readonly aborted: boolean;
  /** An Error, once it has aborted. */
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export interface ClientRequest {
  readonly method: string;
  readonly headers: Headers;
  /** Aborts when no client waits for an answer any more. */
  readonly signal: CancelSignal;
}

export interface Cancellable extends ClientRequest {
  /** Ends it as if the client had left; the client is told why. */
  cancel(): void;
}

class Cancellation implements CancelSignal {
  aborted = false;
  reason: unknown = undefined;
  #listeners: (() => void)[] = [];
  #controller: AbortController | null = null;

  addEventListener(_type: "abort", listener: () => void): void {
    this.#listeners.push(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    const at = this.#listeners.indexOf(listener);
    if (at >= 0) this.#listeners.splice(at, 1);
  }

  abort(reason: LlmnodeError): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener();
    this.#controller?.abort(reason);
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.aborted) this.#controller.abort(this.reason);
    }
    return this.#controller.signal;
  }
}

export function cancellable({ method, headers, signal: client }: Request): Cancellable {
  const cancellation = new Cancellation();
  const leave = () => cancellation.abort(clientGone());
  if (client.aborted) leave();
  else client.addEventListener("abort", leave);
  return {
    method,
    headers,
    signal: cancellation,
    cancel() {
      const message = "An operator has cancelled this request.";
      cancellation.abort(new LlmnodeError("cancelled", message));
    },
  };
}

/** For what takes nothing less; made when it is first asked for. */
export function abortSignalOf(signal: CancelSignal): AbortSignal {
  if (signal instanceof Cancellation) return signal.signal;
  if (signal instanceof AbortSignal) return signal;
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort);
  return controller.signal;
}

/** Why no client waits for an answer any more. */
export function goneBecause({ reason }: CancelSignal): LlmnodeError {
  return reason instanceof LlmnodeError ? reason : clientGone();
}

export function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client closed the connection.");
}
