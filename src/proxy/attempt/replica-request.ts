/** What a client's request asks of the cluster. */

import type { ClientRequest } from "../request/client-request.ts";
import { callerName } from "../../protocol/caller.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import type { Origin } from "../request/origin.ts";
import { MAX_SESSION_CHARS } from "../request/prompt.ts";
import type { RequestContext } from "../request/context.ts";
import { DEBUG_ROUTE } from "../record/recording.ts";
import { OPEN_KINDS } from "../request/routes.ts";
import type { RetryState } from "./retry.ts";

export function replicaRequestOf(
  { call, route, payload, targets, request }: RequestContext,
  how: {
    retry: RetryState;
    /** Where the response was made that this is about or goes on from; null: anywhere will do. */
    origin: Origin | null;
    prefixMatters: (model: string) => boolean;
  },
): ReplicaRequest {
  const { retry, origin } = how;
  const { worker, caller } = call;
  const { kind } = payload;
  const { exclude, minContext } = retry.constraints();
  const model = targets?.[0]?.model ?? payload.model ?? origin?.model ?? null;
  const kinds = kind !== null ? [kind] : model === null ? route.kinds : withOpen(route.kinds);
  const oneModel = model === null && route.method === "POST";
  return {
    model,
    fallbacks: targets === null ? NO_MODELS : targets.slice(1).map((target) => target.model),
    service: null,
    once: false,
    oneModel,
    kinds,
    worker,
    engineRun: origin?.engineRun ?? null,
    exclude,
    minContext,
    prompt: payload.prompt.read(model !== null && how.prefixMatters(model)),
    session: sessionIn(request) ?? payload.prompt.session,
    caller: callerName(caller),
    bodyHash: payload.prompt.bodyHash,
    bodyBytes: payload.length,
    stream: payload.stream,
    explain: request.headers.get(DEBUG_ROUTE) === "1",
  };
}

/** Where no other model is asked for. */
const NO_MODELS: readonly string[] = [];

function sessionIn({ headers }: ClientRequest): string | null {
  return headers.get("x-session-id")?.slice(0, MAX_SESSION_CHARS) || null;
}

/** Kinds that may be anything are asked too, where the model says that they are meant. */
function withOpen(kinds: readonly string[] | null): readonly string[] | null {
  return kinds === null ? null : [...kinds, ...OPEN_KINDS];
}
