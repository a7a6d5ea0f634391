/** The client's request as attempts need it: one that an operator can end as well. */

import { LlmnodeError } from "../../protocol/errors.ts";

/**
 * The part of an AbortSignal that a request needs on its way: a real one for each would cost as much
 * as all of routing.
 */
export interface Leaving {
  readonly aborted: boolean;
  /** An Error, once it has aborted. */
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export interface ClientRequest {
  readonly method: string;
  readonly headers: Headers;
  /** Aborts when nobody waits for an answer any more. */
  readonly signal: Leaving;
}

export interface Cancellable extends ClientRequest {
  /** Ends it as if the client had left; the client is told why. */
  cancel(): void;
}

class Gone implements Leaving {
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
  const gone = new Gone();
  const leave = () => gone.abort(clientGone());
  if (client.aborted) leave();
  else client.addEventListener("abort", leave);
  return {
    method,
    headers,
    signal: gone,
    cancel() {
      const message = "An operator has cancelled this request.";
      gone.abort(new LlmnodeError("cancelled", message));
    },
  };
}

/** For what takes nothing less; made when it is first asked for. */
export function abortSignalOf(leaving: Leaving): AbortSignal {
  if (leaving instanceof Gone) return leaving.signal;
  if (leaving instanceof AbortSignal) return leaving;
  const controller = new AbortController();
  const abort = () => controller.abort(leaving.reason);
  if (leaving.aborted) abort();
  else leaving.addEventListener("abort", abort);
  return controller.signal;
}

/** Why nobody waits for an answer any more. */
export function goneBecause({ reason }: Leaving): LlmnodeError {
  return reason instanceof LlmnodeError ? reason : clientGone();
}

export function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client has gone.");
}
