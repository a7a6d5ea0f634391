/** Operators' requests about join tokens. */

import { type Body, number, optionalText, text } from "../http/body.ts";
import type { JoinTokenInfo, JoinTokens, JoinTokenRequest } from "../store/join-tokens.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

export function tokenRoutes(joinTokens: JoinTokens): AdminRoute[] {
  const list = async () => ({ join_tokens: joinTokens.list().map(infoJson) });
  const create: AdminHandler = async (body) => {
    const { token, info } = await joinTokens.create(requestOf(body));
    return { token, join_token: infoJson(info) };
  };
  const first = async () => ({ token: joinTokens.first() });
  const rotate = async () => ({ token: await joinTokens.rotate() });
  const revoke: AdminHandler = async (body) => ({
    join_token: infoJson(await joinTokens.revoke(text(body, "id"))),
  });
  return [
    ["GET", "/api/v1/join-tokens", "operator", list],
    ["POST", "/api/v1/join-tokens", "operator", create],
    ["GET", "/api/v1/join-tokens/first", "operator", first],
    ["POST", "/api/v1/join-tokens/rotate", "operator", rotate],
    ["POST", "/api/v1/join-tokens/revoke", "operator", revoke],
  ];
}

function requestOf(body: Body): JoinTokenRequest {
  return {
    expiresInMs: number(body, "expires_in_ms"),
    uses: number(body, "uses"),
    models: optionalText(body, "models"),
    note: optionalText(body, "note") ?? "",
  };
}

/** Never the token itself. */
function infoJson(info: JoinTokenInfo): Record<string, unknown> {
  const date = (at: number | null) => (at === null ? null : new Date(at).toISOString());
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
