/** What operators ask the head to do: join tokens, and workers that are sent away. */

import { endRun, forget } from "../cluster/registry.ts";
import type { ClusterState } from "../cluster/state.ts";
import { LlmnodeError } from "../protocol/errors.ts";
import { isLoopback } from "../util/host-port.ts";
import { cleanLine } from "../util/text.ts";
import type { Credentials } from "./credentials.ts";
import type { JoinTokenInfo, JoinTokens, JoinTokenWish } from "./join-tokens.ts";
import type { Sessions } from "./session.ts";

export interface AdminOptions {
  joinTokens: JoinTokens;
  credentials: Credentials;
  state: ClusterState;
  sessions: Sessions;
  now: () => number;
}

/**
 * Null for a path that is not an operator's. The caller makes sure that the request comes from this
 * machine; that it comes from a person's command, not from a web page or through a proxy in front
 * of the head, is seen to here. Rejects with `forbidden`, `bad_request`, `method_not_allowed`,
 * `not_found`, `refused`.
 */
export type Admin = (request: Request, pathname: string) => (() => Promise<Response>) | null;

type Body = Record<string, unknown>;
type Handler = (options: AdminOptions, body: Body) => Promise<unknown>;

const MAX_BODY_BYTES = 16 * 1024;
const MAX_TEXT = 200;

const HANDLERS: Record<string, Partial<Record<"GET" | "POST", Handler>>> = {
  "/api/v1/join-tokens": {
    GET: async ({ joinTokens }) => ({ join_tokens: joinTokens.list().map(infoJson) }),
    POST: async ({ joinTokens }, body) => {
      const { token, info } = await joinTokens.create(wishOf(body));
      return { token, join_token: infoJson(info) };
    },
  },
  "/api/v1/join-tokens/first": {
    GET: async ({ joinTokens }) => ({ token: joinTokens.first() }),
  },
  "/api/v1/join-tokens/rotate": {
    POST: async ({ joinTokens }) => ({ token: await joinTokens.rotate() }),
  },
  "/api/v1/join-tokens/revoke": {
    POST: async ({ joinTokens }, body) => ({
      join_token: infoJson(await joinTokens.revoke(text(body, "id"))),
    }),
  },
  "/api/v1/workers/forget": { POST: forgetWorker },
};

export function createAdmin(options: AdminOptions): Admin {
  return (request, pathname) => {
    const methods = HANDLERS[pathname];
    if (!methods) return null;
    return async () => {
      const { method } = request;
      const handler = method === "GET" || method === "POST" ? methods[method] : undefined;
      if (!handler) {
        const allow = Object.keys(methods).join(", ");
        throw new LlmnodeError("method_not_allowed", `${method} is not possible here.`, {
          allow,
        });
      }
      requireOperator(request);
      const body = method === "POST" ? await bodyOf(request) : {};
      const answer = await handler(options, body);
      return Response.json(
        { schema: "llmnode.admin/1", ...(answer as object) },
        { headers: { "cache-control": "no-store" } },
      );
    };
  };
}

/**
 * A page in an operator's browser can send requests to this machine, under a name of its own that
 * leads here too; a proxy in front of the head makes the whole world look like this machine.
 */
export function requireOperator(request: Request): void {
  const host = request.headers.get("host") ?? "";
  const origin = request.headers.get("origin");
  const name = host.replace(/:\d+$/, "");
  const isForwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].some((header) =>
    request.headers.has(header),
  );
  const scheme = request.url.startsWith("https:") ? "https" : "http";
  const isOwn = origin === null || origin === `${scheme}://${host}`;
  const site = request.headers.get("sec-fetch-site");
  const isDirect = site === null || site === "same-origin" || site === "none";
  if (isLoopback(name) && isOwn && isDirect && !isForwarded) return;
  throw new LlmnodeError(
    "forbidden",
    "This is for commands on the head's own machine, not for web pages or through a proxy.",
  );
}

async function bodyOf(request: Request): Promise<Body> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new LlmnodeError("bad_request", "The content type must be application/json.");
  }
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  if (!(length <= MAX_BODY_BYTES)) throw new LlmnodeError("bad_request", "The body is too long.");
  let value: unknown;
  try {
    value = await request.json();
  } catch {
    throw new LlmnodeError("bad_request", "The body is not JSON.");
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  throw new LlmnodeError("bad_request", "The body must be a JSON object.");
}

async function forgetWorker(options: AdminOptions, body: Body): Promise<unknown> {
  const { state, credentials, sessions, now } = options;
  const wanted = text(body, "worker");
  const live = [...state.workers.values()].find(({ id, name }) => id === wanted || name === wanted);
  const gone = credentials.get(wanted) ? [wanted] : credentials.named(wanted);
  const id = live?.id ?? gone[0];
  if (id === undefined) {
    throw new LlmnodeError("not_found", `there is no worker ${cleanLine(wanted, 80)}`);
  }
  if (!live && gone.length > 1) {
    throw new LlmnodeError("refused", `several workers were called ${cleanLine(wanted, 80)}`, {
      hints: [`name one by its id: ${gone.slice(0, 5).join(", ")}`],
    });
  }
  await credentials.forget(id, live?.run ?? null);
  if (live) {
    sessions.end(live.session, {
      code: "worker_forgotten",
      reason: "an operator has sent this worker away (llmnode forget)",
      hint: "to let it in again, end this join and start it anew with a join token",
    });
    // What it still runs moves on or ends, as if its process had ended.
    for (const engine of live.engines.values()) endRun(state, engine.run, now());
    endRun(state, live.run, now());
    forget(state, live);
  }
  return { worker: { id, name: live?.name ?? credentials.get(id)?.name ?? null } };
}

function wishOf(body: Body): JoinTokenWish {
  return {
    expiresInMs: number(body, "expires_in_ms"),
    uses: number(body, "uses"),
    models: body["models"] === undefined || body["models"] === null ? null : text(body, "models"),
    note: body["note"] === undefined || body["note"] === null ? "" : text(body, "note"),
  };
}

function text(body: Body, key: string): string {
  const value = body[key];
  if (typeof value === "string" && value !== "" && cleanLine(value, MAX_TEXT) === value) {
    return value;
  }
  throw new LlmnodeError("bad_request", `${key} must be a text of 1 to ${MAX_TEXT} characters.`, {
    param: key,
  });
}

/** A whole number above zero that a date can bear, or null. */
function number(body: Body, key: string): number | null {
  const value = body[key];
  if (value === undefined || value === null) return null;
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 1e13) {
    return value;
  }
  throw new LlmnodeError("bad_request", `${key} must be a whole number above zero.`, {
    param: key,
  });
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
