/** What is known of one client request before anything is sent: who asks, by which route, with which body. */

import type { LlmnodeError } from "../../protocol/errors.ts";
import type { Caller } from "../../protocol/caller.ts";
import type { ModelTarget } from "./aliases.ts";
import type { ClientRequest } from "./client-request.ts";
import type { Payload } from "./payload.ts";
import type { Route } from "./routes.ts";

export interface ProxyCall {
  route: Route;
  /** The path at the engine, with its query. */
  path: string;
  requestId: string;
  clientAddress: string;
  /** Who asks. */
  caller: Caller;
  /** A worker that the client insists on. */
  worker: string | null;
  /** Takes what should not have happened, and gives what the client is told instead. */
  onBug: (error: unknown) => LlmnodeError;
  /** Called once, when the answer has been passed on or there will be none. */
  onEnd: () => void;
}

export interface RequestContext {
  request: ClientRequest;
  call: ProxyCall;
  payload: Payload;
  /** What the model that was asked for stands for; null: for itself. */
  targets: readonly ModelTarget[] | null;
}
