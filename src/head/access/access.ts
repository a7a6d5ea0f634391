/** Decides whether who asks may: for models, and for all that the head answers itself. */

import { errorResponse } from "../../proxy/record/error-answer.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { hasRole } from "../../protocol/caller.ts";
import { type AuthOptions, type AuthProblem, identify, type Identity } from "./auth.ts";
import type { AuthDelay } from "./auth-delay.ts";
import { isNearby, networkOf } from "./client-address.ts";
import type { Keys } from "./keys.ts";
import type { AccessMode } from "./modes.ts";
import type { Audience, HeadRoute, PublicPart } from "../http/route-table.ts";

export interface AccessOptions extends AuthOptions {
  keys: Keys;
  delay: AuthDelay;
  /** Who may use models. */
  mode: AccessMode;
  /** What is opened to everyone. */
  public: Record<PublicPart, boolean>;
  /** Whether operators may ask by plain HTTP from other machines. */
  insecure: boolean;
  /** Called for each credential that is no good where one is needed, and for each that is missing. */
  onFailure?: (reason: AuthProblem | "missing" | "not_allowed") => void;
}

/** Which requests a port is for: with `--admin-listen` those of operators have one of their own. */
export type Part = "all" | "clients" | "operators";

/** What decides who may ask for a route of the head's own. */
export type Guarded = Pick<HeadRoute, "audience" | "openedBy" | "staysClosed">;

export interface Access {
  /** Never throws. `peer` is the connection's address. */
  identify(request: Request, peer: string): Identity;
  /** Why a client may not ask for a model or a service; null: it may. */
  client(identity: Identity, asks: { pinned: boolean; explained: boolean }): LlmnodeError | null;
  /** Why a caller may not have what the head answers itself; null: they may. */
  own(identity: Identity, route: Guarded, search: string): LlmnodeError | null;
  /** Whether that route is answered at that port at all. */
  isServedAt(part: Part, route: Guarded, search: string): boolean;
  /** An answer to a bad credential, held back as long as that address deserves. */
  heldBack(identity: Identity, answer: Response, signal: AbortSignal): Promise<Response>;
}

export function createAccess(options: AccessOptions): Access {
  const refusals: Record<Audience, (identity: Identity) => LlmnodeError | null> = {
    everyone: () => null,
    client: (identity) => refuseClient(options, identity, { pinned: false, explained: false }),
    user: (identity) => refuseViewer(options, identity, "user"),
    viewer: (identity) => refuseViewer(options, identity, "viewer"),
    operator: (identity) => refuseOperator(options, identity),
  };
  const counted = (error: LlmnodeError | null, { problem }: Identity): LlmnodeError | null => {
    if (error === null) return null;
    const reason = error === problem?.error ? problem.reason : null;
    options.onFailure?.(reason ?? (error.code === "key_missing" ? "missing" : "not_allowed"));
    return error;
  };
  const audienceOf = ({ audience, openedBy, staysClosed }: Guarded, search: string): Audience => {
    const isOpened = openedBy !== undefined && options.public[openedBy];
    return isOpened && staysClosed?.(search) !== true ? "everyone" : audience;
  };
  return {
    identify: (request, peer) => identify(options, request, peer),
    client: (identity, asks) => counted(refuseClient(options, identity, asks), identity),
    own: (identity, route, search) =>
      counted(refusals[audienceOf(route, search)](identity), identity),
    isServedAt(part, route, search) {
      if (part !== "clients") return true;
      const audience = audienceOf(route, search);
      return audience !== "viewer" && audience !== "operator";
    },
    async heldBack({ caller, problem }, answer, signal) {
      if (problem?.error.code !== "key_invalid" || answer.status !== 401) return answer;
      if (await options.delay.failed(networkOf(caller.address), signal)) return answer;
      await answer.body?.cancel();
      return errorResponse(
        new LlmnodeError("rate_limited", "Too many requests with invalid API keys.", {
          retryAfterMs: 5000,
        }),
      );
    },
  };
}

type Rules = Pick<AccessOptions, "keys" | "mode" | "insecure">;

/** Whether API keys tell people apart: without any, all that a client may do needs none. */
function hasKeys({ keys, mode }: Rules): boolean {
  return mode === "keys" || keys.size > 0;
}

function mayGoWithout({ keys, mode }: Rules, address: string): boolean {
  if (mode === "open") return true;
  if (mode === "keys" || (mode === "auto" && keys.size > 0)) return false;
  return isNearby(address);
}

function refuseClient(
  rules: Rules,
  { caller, problem }: Identity,
  { pinned, explained }: { pinned: boolean; explained: boolean },
): LlmnodeError | null {
  if (caller.role === "none" && !mayGoWithout(rules, caller.address)) {
    if (!hasKeys(rules)) return missing(NO_KEY_YET);
    return problem?.error ?? missing(rules.mode === "private" ? KEY_FROM_OUTSIDE : KEY_NEEDED);
  }
  if (!(pinned || explained) || !hasKeys(rules) || hasRole(caller, "operator")) return null;
  const what = pinned ? "Choosing a worker" : "An explanation of the route";
  const message = `${what} needs an operator's API key.`;
  return caller.role === "none" ? (problem?.error ?? missing(message)) : forbidden(message);
}

function refuseViewer(
  rules: Rules,
  identity: Identity,
  role: "user" | "viewer",
): LlmnodeError | null {
  const { caller, problem } = identity;
  const { isAtHome, isForeignPage } = identity.circumstances();
  if (isForeignPage) return foreign();
  if (hasRole(caller, role)) return null;
  if (problem !== null && (problem.isOurs || hasKeys(rules))) return problem.error;
  if (isAtHome) return null;
  if (caller.role !== "none") return forbidden(`This needs a ${role}'s API key.`);
  if (hasKeys(rules))
    return missing(`This needs a ${role}'s API key: Authorization: Bearer sk-ln-...`);
  return forbidden("This is available on the head's own machine only.");
}

function refuseOperator(rules: Rules, identity: Identity): LlmnodeError | null {
  const { caller, problem } = identity;
  const { isAtHome, isForeignPage, isPrivate } = identity.circumstances();
  if (isForeignPage) return foreign();
  if (!isPrivate && !rules.insecure) {
    return forbidden(
      "This is not available to other machines over plain HTTP, which others on the network can read: " +
        "use HTTPS (--tls-cert), or the head's own machine.",
    );
  }
  if (hasRole(caller, "operator")) return null;
  if (caller.role !== "none") return forbidden("This needs an operator's API key.");
  if (problem !== null) return problem.error;
  const message =
    "This needs the admin token or an operator's API key (LLMNODE_ADMIN_TOKEN, LLMNODE_API_KEY).";
  return isAtHome ? missing(message) : forbidden(message);
}

const KEY_NEEDED = "An API key is needed: Authorization: Bearer sk-ln-...";
const KEY_FROM_OUTSIDE =
  "Clients from outside private networks need an API key: Authorization: Bearer sk-ln-...";
const NO_KEY_YET =
  "Clients from outside private networks need an API key, and there is none yet " +
  "(on the head: llmnode key create; to serve everyone: llmnode head --access open).";

function missing(message: string): LlmnodeError {
  return new LlmnodeError("key_missing", message);
}

function forbidden(message: string): LlmnodeError {
  return new LlmnodeError("forbidden", message);
}

function foreign(): LlmnodeError {
  return forbidden("Web pages of other origins may not use this.");
}
