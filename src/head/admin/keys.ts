/** Operators' requests about API keys. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { KEY_ROLES, type KeyRole } from "../../protocol/caller.ts";
import { globMatcher } from "../../util/glob.ts";
import { cleanLine } from "../../util/text.ts";
import { type Body, flag, number, optionalText, text, texts } from "../http/body.ts";
import type { KeyInfo, Keys, KeyRequest } from "../access/keys.ts";
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

export interface KeyRoutesOptions {
  keys: Keys;
  /** Names by which clients may ask for models now, aliases included. */
  models: () => Iterable<string>;
}

export function keyRoutes({ keys, models }: KeyRoutesOptions): AdminRoute[] {
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
  const message = `role must be one of ${KEY_ROLES.join(", ")}.`;
  throw new LlmnodeError("bad_request", message, { param: "role" });
}

/** Null: none. Throws `bad_request` for what cannot be meant. */
function limit(body: Body, name: keyof typeof MOST): number | null {
  const value = number(body, name);
  if (value === null || value <= MOST[name]) return value;
  const message = `${name} must be at most ${MOST[name]}.`;
  throw new LlmnodeError("bad_request", message, { param: name });
}

/** Never the key itself. */
export function infoJson(info: KeyInfo): Record<string, unknown> {
  const date = (at: number | null) => (at === null ? null : new Date(at).toISOString());
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
