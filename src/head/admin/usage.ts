/** `GET /api/v1/usage`: what keys have used, for those who may know. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { hasRole, type Caller } from "../../protocol/caller.ts";
import { HOUR_MS, type Usage, type UsageQuestion } from "../quota/usage.ts";
import { noUsage } from "../quota/usage-buffer.ts";
import type { Keys } from "../access/keys.ts";
import { bad } from "../http/body.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";
import {
  SUMS,
  USAGE_BY,
  type UsageBy,
  type UsageGroup,
  type UsageSums,
} from "../quota/usage-file.ts";

export interface UsageRoutesOptions {
  usage: Pick<Usage, "report">;
  nameOf: Keys["nameOf"];
  /** Milliseconds since 1970. */
  now: () => number;
}

/** As people ask for requests that came without a key. */
const NO_KEY = "none";
const DEFAULT_SINCE_MS = 24 * HOUR_MS;
const MAX_TEXT = 512;

export function usageRoutes({ usage, nameOf, now }: UsageRoutesOptions): AdminRoute[] {
  const report: AdminHandler = async (_body, { caller, search }) => {
    const question = questionOf(search, caller, now());
    const { since, until, rows } = await usage.report(question);
    const total = noUsage();
    for (const row of rows) for (const sum of SUMS) total[sum] += row[sum];
    return {
      schema: "llmnode.usage/1",
      since: instant(since),
      until: instant(until),
      by: question.by,
      rows: rows.map((row) => ({ ...placeJson(row, question.by, nameOf), ...sumsJson(row) })),
      total: sumsJson(total),
    };
  };
  // A user's key sees its own.
  return [["GET", "/api/v1/usage", "user", report]];
}

/** Throws `bad_request`; `forbidden` for a user's key that asks for others. */
function questionOf(search: URLSearchParams, caller: Caller, now: number): UsageQuestion {
  const sinceMs = Number(search.get("since_ms") ?? DEFAULT_SINCE_MS);
  if (!Number.isFinite(sinceMs) || sinceMs <= 0) {
    throw bad("since_ms", "since_ms must be a number of milliseconds above zero.");
  }
  const asked = text(search, "key");
  const own = caller.key !== null && !hasRole(caller, "viewer") ? caller.key.id : null;
  if (own !== null && asked !== null && asked !== own) {
    throw new LlmnodeError("forbidden", "A user's API key sees its own usage only.");
  }
  return {
    by: byOf(text(search, "by") ?? "key,model"),
    since: now - sinceMs,
    key: own ?? (asked === NO_KEY ? "" : asked),
    model: text(search, "model"),
  };
}

function byOf(list: string): UsageBy[] {
  const words = list.split(",");
  const by = USAGE_BY.filter((one) => words.includes(one));
  if (by.length === new Set(words).size) return by;
  throw bad("by", `by must be some of ${USAGE_BY.join(", ")}, with commas between them.`);
}

function text(search: URLSearchParams, name: string): string | null {
  const value = search.get(name);
  if (value === null || value === "") return null;
  if (value.length <= MAX_TEXT) return value;
  throw bad(name, `${name} is longer than ${MAX_TEXT} characters.`);
}

/** Only what rows are kept apart by; `key` null: without a key. */
function placeJson(row: UsageGroup, by: readonly UsageBy[], nameOf: Keys["nameOf"]): object {
  const { hour, day, key, model } = row;
  const isKeyed = key !== null && key !== "";
  return {
    ...(by.includes("hour") && { hour: instant((hour ?? 0) * HOUR_MS) }),
    ...(by.includes("day") && { day: instant((day ?? 0) * 24 * HOUR_MS).slice(0, 10) }),
    ...(by.includes("key") && {
      key: isKeyed ? key : null,
      // A key need not have a name.
      key_name: (isKeyed && nameOf(key)) || null,
    }),
    ...(by.includes("model") && { model }),
  };
}

function sumsJson(sums: UsageSums): object {
  return {
    requests: sums.requests,
    errors: sums.errors,
    input_tokens: sums.input,
    cached_input_tokens: sums.cachedInput,
    output_tokens: sums.output,
    estimated_tokens: sums.estimated,
  };
}

function instant(at: number): string {
  return new Date(at).toISOString();
}
