/** Operators' requests about join tokens. */

import { type AdminRoutes, type Body, number, optionalText, text } from "../http/body.ts";
import type { JoinTokenInfo, JoinTokens, JoinTokenWish } from "../store/join-tokens.ts";

export function tokenRoutes(joinTokens: JoinTokens): AdminRoutes {
  return {
    "/api/v1/join-tokens": {
      GET: async () => ({ join_tokens: joinTokens.list().map(infoJson) }),
      POST: async (body) => {
        const { token, info } = await joinTokens.create(wishOf(body));
        return { token, join_token: infoJson(info) };
      },
    },
    "/api/v1/join-tokens/first": {
      GET: async () => ({ token: joinTokens.first() }),
    },
    "/api/v1/join-tokens/rotate": {
      POST: async () => ({ token: await joinTokens.rotate() }),
    },
    "/api/v1/join-tokens/revoke": {
      POST: async (body) => ({
        join_token: infoJson(await joinTokens.revoke(text(body, "id"))),
      }),
    },
  };
}

function wishOf(body: Body): JoinTokenWish {
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
