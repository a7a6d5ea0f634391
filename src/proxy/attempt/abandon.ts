/** Tells SGLang that no client waits for an answer: it does not always notice a connection that has gone. */

import { fieldLine } from "../request/headers.ts";
import { AnswerCollector } from "../../util/http/exchange.ts";
import type { Lease } from "../request/lease.ts";
import type { Payload } from "../request/payload.ts";
import type { Route } from "../request/routes.ts";

export const ABANDON_LIMITS = {
  /** How long SGLang may take to hear it. */
  timeoutMs: 2000,
  /** Calls at once; what comes on top is left to SGLang's own notice. */
  maxCalls: 256,
};
export type AbandonLimits = typeof ABANDON_LIMITS;

/** Best effort: never throws, and is not waited for. */
export type Abandon = (lease: Lease, name: string) => void;

/** The routes at which SGLang takes a request's name from the body's `rid`. */
const NAMED: ReadonlySet<string> = new Set([
  "/v1/chat/completions",
  "/v1/completions",
  "/generate",
]);

/**
 * What an attempt is to be called at SGLang, which makes the answer's `id` of it: in the form of
 * SGLang's own. Null where it takes none, and where the client gave one: another client could have
 * given the same, and must not lose its answer.
 */
export function nameFor(lease: Lease, route: Route, payload: Payload): string | null {
  if (lease.engineKind !== "sglang" || !NAMED.has(route.path) || !payload.canName) return null;
  return crypto.randomUUID().replaceAll("-", "");
}

export function createAbandon({ timeoutMs, maxCalls }: AbandonLimits): Abandon {
  let calls = 0;
  return (lease, name) => {
    if (calls >= maxCalls) return;
    calls += 1;
    void call(lease, name, timeoutMs)
      // The engine may well be gone, and that is why.
      .catch(() => null)
      .finally(() => {
        calls -= 1;
      });
  };
}

async function call(lease: Lease, name: string, timeoutMs: number): Promise<void> {
  const { apiKey } = lease;
  const reader = new AnswerCollector(MAX_ANSWER_BYTES);
  const bearer = apiKey === null ? "" : fieldLine("authorization", `Bearer ${apiKey}`);
  const request = {
    path: "/abort_request",
    method: "POST",
    host: lease.hostHeader,
    fields: `content-type: application/json\r\n${bearer}`,
    body: new TextEncoder().encode(JSON.stringify({ rid: name })),
    length: null,
    fresh: false,
  };
  const exchange = lease.upstream(request, reader);
  const timer = setTimeout(() => reader.fail(new Error("no answer in time")), timeoutMs);
  try {
    await reader.answer;
  } finally {
    clearTimeout(timer);
    exchange.abort();
  }
}

const MAX_ANSWER_BYTES = 64 * 1024;
