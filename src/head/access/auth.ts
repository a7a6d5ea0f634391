/** Identifies the caller: by an API key, by the admin token, or by its address alone. */

import type { BlockList } from "node:net";
import { hostname } from "node:os";
import { LlmnodeError } from "../../protocol/errors.ts";
import { isAdminToken } from "../../protocol/head-files.ts";
import type { Caller } from "../../protocol/caller.ts";
import { isLoopback } from "../../util/host-port.ts";
import type { AdminTokenCheck } from "./admin-token.ts";
import { clientAddress, isForwarded, isForwardedByTls } from "./client-address.ts";
import { parseKey } from "./key-text.ts";
import type { Keys } from "./keys.ts";

export interface AuthOptions {
  keys: Pick<Keys, "check">;
  isAdmin: AdminTokenCheck;
  /** Proxies whose word on a client's address counts; null: none. */
  trustedProxies: BlockList | null;
}

/** Why a credential is not accepted: a metric's label. */
export type AuthProblem = "unknown" | "wrong" | "expired" | "revoked" | "malformed" | "conflicting";

/** A credential that is not accepted. */
interface Problem {
  reason: AuthProblem;
  error: LlmnodeError;
  isOurs: boolean;
}

export class Identity {
  readonly caller: Caller;
  /** Set where the credential is not accepted; the caller then counts as one without any. */
  readonly problem: Problem | null;
  readonly #incoming: Incoming;

  constructor(incoming: Incoming, caller: Caller, problem: Problem | null) {
    this.caller = caller;
    this.problem = problem;
    this.#incoming = incoming;
  }

  /** Looked at only where it matters: most requests are for models. */
  circumstances(): Circumstances {
    return circumstancesOf(this.#incoming);
  }
}

/** What was incoming, and by whose connection. */
interface Incoming {
  options: AuthOptions;
  request: Request;
  peer: string;
}

export interface Circumstances {
  /** Whether it comes from a person's program on this machine, not through a proxy or a web page. */
  isAtHome: boolean;
  /** Whether a web page of another origin sends it. */
  isForeignPage: boolean;
  /** Whether it cannot be read between the client and the head. */
  isPrivate: boolean;
}

/** Never throws: what is wrong counts only where a credential is needed. `peer` is the connection's address. */
export function identify(options: AuthOptions, request: Request, peer: string): Identity {
  const { headers } = request;
  const { trustedProxies } = options;
  const address = clientAddress(peer, headers, trustedProxies);
  const incoming = { options, request, peer };
  const shown = credentialIn(headers);
  const anonymous: Caller = { key: null, address, role: "none" };
  if (shown === null) return new Identity(incoming, anonymous, null);
  if (typeof shown !== "string") return new Identity(incoming, anonymous, shown);
  if (isAdminToken(shown)) {
    if (options.isAdmin(shown)) {
      return new Identity(incoming, { ...anonymous, role: "admin" }, null);
    }
    const message = "This is not the admin token of this head.";
    const error = new LlmnodeError("key_invalid", message);
    return new Identity(incoming, anonymous, { reason: "wrong", error, isOurs: true });
  }
  const checked = options.keys.check(shown);
  if (checked.ok) {
    const { key } = checked;
    return new Identity(incoming, { key, address, role: key.role }, null);
  }
  const { reason, message } = checked;
  const error = new LlmnodeError("key_invalid", message);
  const isOurs = parseKey(shown) !== null;
  return new Identity(incoming, anonymous, { reason, error, isOurs });
}

function circumstancesOf({ options, request, peer }: Incoming): Circumstances {
  const { trustedProxies } = options;
  const { headers } = request;
  const isTls = request.url.startsWith("https:") || isForwardedByTls(peer, headers, trustedProxies);
  const host = headers.get("host") ?? "";
  const isLocal = isLoopback(peer) && !isForwarded(headers);
  const isForeignPage = isFromForeignPage(headers, `${isTls ? "https" : "http"}://${host}`);
  return {
    isForeignPage,
    isAtHome: isLocal && !isForeignPage && isOwnName(host),
    isPrivate: isTls || isLocal,
  };
}

/** Longer than any credential that might be sent here by mistake. */
const MAX_CREDENTIAL_CHARS = 4096;

/** The one credential that a request shows; null without one. */
function credentialIn(headers: Headers): string | null | Problem {
  const authorization = headers.get("authorization");
  const apiKey = headers.get("x-api-key") || null;
  if (authorization === null) return apiKey;
  const bearer = /^bearer +(\S+)$/i.exec(authorization)?.[1] ?? null;
  if (bearer !== null && bearer.length <= MAX_CREDENTIAL_CHARS) {
    if (apiKey === null || apiKey === bearer) return bearer;
    const isOurs = [bearer, apiKey].some((one) => isAdminToken(one) || parseKey(one) !== null);
    const message = "authorization and x-api-key carry different credentials: send only one.";
    return {
      reason: "conflicting",
      error: new LlmnodeError("bad_request", message),
      isOurs,
    };
  }
  // A proxy's own password in front of the head says nothing to it.
  if (apiKey !== null) return apiKey;
  const message = /^basic\b/i.test(authorization)
    ? "Basic authentication is not supported: send Authorization: Bearer <API key>."
    : "The authorization header must be: Bearer <API key>.";
  return {
    reason: "malformed",
    error: new LlmnodeError("key_missing", message),
    isOurs: false,
  };
}

/** A browser says whose page it is that asks; other programs do not. */
function isFromForeignPage(headers: Headers, own: string): boolean {
  const origin = headers.get("origin");
  if (origin !== null && origin !== own) return true;
  const site = headers.get("sec-fetch-site");
  return site !== null && site !== "same-origin" && site !== "none";
}

/** A page can have its own name lead to this machine; then the browser takes it for its own. */
function isOwnName(host: string): boolean {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return isLoopback(name) || name === hostname().toLowerCase();
}
