/** The client's request as attempts need it: with a signal that an operator can end as well. */

import { LlmnodeError } from "../protocol/errors.ts";

export interface ClientRequest {
  readonly method: string;
  readonly headers: Headers;
  /** Aborts when nobody waits for an answer any more. */
  readonly signal: AbortSignal;
}

export interface Cancellable extends ClientRequest {
  /** Ends it as if the client had left; the client is told why. */
  cancel(): void;
}

export function cancellable({ method, headers, signal: client }: Request): Cancellable {
  const ending = new AbortController();
  if (client.aborted) ending.abort();
  else client.addEventListener("abort", () => ending.abort(), { once: true });
  return {
    method,
    headers,
    signal: ending.signal,
    cancel: () =>
      ending.abort(new LlmnodeError("cancelled", "An operator has cancelled this request.")),
  };
}

/** Why the signal of a request has aborted. */
export function goneBecause(signal: AbortSignal): LlmnodeError {
  const reason: unknown = signal.reason;
  if (reason instanceof LlmnodeError) return reason;
  return new LlmnodeError("client_gone", "The client has gone.");
}
