/** What is known of one client request before anything is sent: who asks, for what, and whether it may. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Caller } from "../../protocol/caller.ts";
import type { ModelTarget } from "./aliases.ts";
import type { ClientRequest } from "./client-request.ts";
import type { Payload } from "./payload.ts";
import type { AnswerHeaders } from "./headers.ts";
import type { Route } from "./routes.ts";

export interface ProxyCall {
  /** The path at the engine, with its query. */
  path: string;
  requestId: string;
  clientAddress: string;
  /** Who asks. */
  caller: Caller;
  /** A worker that the client insists on. */
  worker: string | null;
  /** Takes what should not have happened, and gives what the client is told instead. */
  onBug(error: unknown): LlmnodeError;
  /** Adds the headers that every answer has, whatever it is. */
  complete(headers: AnswerHeaders): void;
  /** The request lasts: silence alone is not to end its connection. Called once at most. */
  keepOpen(): void;
  /** Called once, when the answer has been passed on or there will be none. */
  onEnd(): void;
}

export interface RequestContext {
  request: ClientRequest;
  call: ProxyCall;
  route: Route;
  payload: Payload;
  /** What the model that was asked for stands for; null: for itself. */
  targets: readonly ModelTarget[] | null;
}

/** The words for a model that is not there are those for one that is hidden from who asks. */
export function noSuchModel(model: string): LlmnodeError {
  const name = JSON.stringify(model.slice(0, 200));
  return new LlmnodeError("model_not_found", `The model ${name} does not exist.`);
}

/**
 * Throws `model_not_found` for a model that the key is not for; `bad_request` for a request that any
 * engine might answer, by a key that is not for all of their models.
 */
export function requireAllowed({ key }: Caller, model: string | null): void {
  if (key === null || key.models === null) return;
  if (model === null) {
    const message = "This API key is limited to certain models: name one in 'model'.";
    throw new LlmnodeError("bad_request", message, { param: "model" });
  }
  if (!key.allows(model)) throw noSuchModel(model);
}
