/** Operators' requests about API keys and join tokens. */

import { KEY_ROLES, type KeyRole } from "../../protocol/caller.ts";
import { globMatcher } from "../../util/glob.ts";
import { cleanLine } from "../../util/text.ts";
import { bad, type Body, flag, number, optionalText, text, texts } from "../http/body.ts";
import type { KeyInfo, Keys, KeyRequest } from "../access/keys.ts";
import type { JoinTokenInfo, JoinTokenRequest, JoinTokens } from "../store/join-tokens.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

const MAX_MODELS = 200;
const YEAR_MS = 365 * 24 * 3_600_000;
/** Beyond these a limit is a slip of the hand. */
const MOST = {
  requests_per_minute: 1_000_000,
  tokens_per_minute: 1_000_000_000,
  concurrency: 100_000,
  tokens_per_day: 1_000_000_000_000,
  expires_in_ms: 100 * YEAR_MS,
};

/** `models`: names by which clients may ask for models now, aliases included. */
export function keyRoutes(keys: Keys, models: () => Iterable<string>): AdminRoute[] {
  const list = async () => ({ keys: keys.list().map(infoJson) });
  const create: AdminHandler = async (body) => {
    const request = requestOf(body);
    const { key, info } = await keys.create(request);
    const warnings = absent(request, [...models()]);
    return { key, api_key: infoJson(info), keys: keys.size, warnings };
  };
  const revoke: AdminHandler = async (body) => {
    const info = await keys.revoke(text(body, "id"), { purge: flag(body, "purge") });
    const isLast = !keys.list().some(({ state }) => state === "active");
    return { api_key: infoJson(info), keys: keys.size, active_keys: isLast ? 0 : null };
  };
  return [
    ["GET", "/api/v1/keys", "operator", list],
    ["POST", "/api/v1/keys", "operator", create],
    ["POST", "/api/v1/keys/revoke", "operator", revoke],
  ];
}

/** A key may be made before its models are there. */
function absent({ models }: KeyRequest, known: readonly string[]): string[] {
  return (models ?? [])
    .filter((pattern) => !known.some(globMatcher(pattern)))
    .map((pattern) => `no worker has a model ${cleanLine(pattern, 200)} now`);
}

function requestOf(body: Body): KeyRequest {
  return {
    name: optionalText(body, "name") ?? "",
    role: roleOf(body),
    models: (body["models"] ?? null) === null ? null : texts(body, "models", MAX_MODELS),
    limits: {
      requestsPerMinute: limit(body, "requests_per_minute"),
      tokensPerMinute: limit(body, "tokens_per_minute"),
      concurrency: limit(body, "concurrency"),
      tokensPerDay: limit(body, "tokens_per_day"),
    },
    expiresInMs: limit(body, "expires_in_ms"),
  };
}

function roleOf(body: Body): KeyRole {
  const asked = optionalText(body, "role") ?? "user";
  const role = KEY_ROLES.find((one) => one === asked);
  if (role) return role;
  throw bad("role", `role must be one of ${KEY_ROLES.join(", ")}.`);
}

/** Null: none. Throws `bad_request` for what cannot be meant. */
function limit(body: Body, name: keyof typeof MOST): number | null {
  const value = number(body, name);
  if (value === null || value <= MOST[name]) return value;
  throw bad(name, `${name} must be at most ${MOST[name]}.`);
}

/** Never the key itself. */
function infoJson(info: KeyInfo): object {
  return {
    id: info.id,
    state: info.state,
    name: info.name,
    role: info.role,
    models: info.models,
    requests_per_minute: info.limits.requestsPerMinute,
    tokens_per_minute: info.limits.tokensPerMinute,
    concurrency: info.limits.concurrency,
    tokens_per_day: info.limits.tokensPerDay,
    created_at: date(info.createdAt),
    expires_at: date(info.expiresAt),
    revoked_at: date(info.revokedAt),
  };
}

export function tokenRoutes(joinTokens: JoinTokens): AdminRoute[] {
  const list = async () => ({ join_tokens: joinTokens.list().map(tokenJson) });
  const create: AdminHandler = async (body) => {
    const { token, info } = await joinTokens.create(tokenRequestOf(body));
    return { token, join_token: tokenJson(info) };
  };
  const first = async () => ({ token: joinTokens.first() });
  const rotate = async () => ({ token: await joinTokens.rotate() });
  const revoke: AdminHandler = async (body) => ({
    join_token: tokenJson(await joinTokens.revoke(text(body, "id"))),
  });
  return [
    ["GET", "/api/v1/join-tokens", "operator", list],
    ["POST", "/api/v1/join-tokens", "operator", create],
    ["GET", "/api/v1/join-tokens/first", "operator", first],
    ["POST", "/api/v1/join-tokens/rotate", "operator", rotate],
    ["POST", "/api/v1/join-tokens/revoke", "operator", revoke],
  ];
}

function tokenRequestOf(body: Body): JoinTokenRequest {
  return {
    expiresInMs: number(body, "expires_in_ms"),
    uses: number(body, "uses"),
    models: optionalText(body, "models"),
    note: optionalText(body, "note") ?? "",
  };
}

/** Never the token itself. */
function tokenJson(info: JoinTokenInfo): object {
  return {
    id: info.id,
    state: info.state,
    first: info.first,
    created_at: date(info.createdAt),
    expires_at: date(info.expiresAt),
    uses_max: info.usesMax,
    uses: info.used,
    models: info.models,
    note: info.note,
  };
}

function date(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
