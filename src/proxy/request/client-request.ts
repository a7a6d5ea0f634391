/** The client's request as attempts need it, and what ends it: the client, or an operator. */

import { LlmnodeError } from "../../protocol/errors.ts";

/** What is told of an abort: as the DOM has it, a function, or an object that needs none for it. */
export type CancelListener = (() => void) | { handleEvent(): void };

/** The part of an AbortSignal that a request needs on its way: a real one for each costs too much. */
export interface CancelSignal {
  readonly aborted: boolean;
  /** An Error, once it has aborted. */
  readonly reason: unknown;
  addEventListener(type: "abort", listener: CancelListener, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: CancelListener): void;
}

export interface ClientRequest {
  readonly method: string;
  readonly headers: Headers;
  /** Aborts when no client waits for an answer any more. */
  readonly signal: CancelSignal;
}

export class Cancellation implements CancelSignal {
  aborted = false;
  reason: unknown = undefined;
  #listeners: CancelListener[] = [];

  /** Only the first reason counts. */
  abort(reason: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) {
      if (typeof listener === "function") listener();
      else listener.handleEvent();
    }
  }

  addEventListener(_type: "abort", listener: CancelListener): void {
    this.#listeners.push(listener);
  }

  removeEventListener(_type: "abort", listener: CancelListener): void {
    const at = this.#listeners.indexOf(listener);
    if (at >= 0) this.#listeners.splice(at, 1);
  }
}

/** Aborts with the first of them; to be let go of when it is no longer needed. */
export class FirstOf extends Cancellation implements Disposable {
  readonly #signals: readonly CancelSignal[];
  readonly #onAbort = () => this.abort(this.#signals.find(({ aborted }) => aborted)?.reason);

  constructor(signals: readonly CancelSignal[]) {
    super();
    this.#signals = signals;
    for (const signal of signals) signal.addEventListener("abort", this.#onAbort);
    if (signals.some(({ aborted }) => aborted)) this.#onAbort();
  }

  [Symbol.dispose](): void {
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#onAbort);
  }
}

/** Why no client waits for an answer any more. */
export function goneBecause({ reason }: CancelSignal): LlmnodeError {
  return reason instanceof LlmnodeError ? reason : clientGone();
}

export function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client closed the connection.");
}

export function cancelled(): LlmnodeError {
  return new LlmnodeError("cancelled", "An operator has cancelled this request.");
}
