/** Holds requests to the limits of their keys and addresses, and tells clients of them. */

import {
  createKeyLimiter,
  type Denied,
  KEY_LIMITER_DEFAULTS,
  type KeyLimiterOptions,
  type LimitAsk,
  type LimitName,
  type Shares,
} from "../../cluster/quota/key.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { KeyLimits } from "../../protocol/caller.ts";
import { type AdmissionFacts, type Admit, NO_ADMISSION } from "../../proxy/record/admission.ts";
import { formatDuration } from "../../util/units.ts";
import { estimatedTokens, readsPrompt, tokensOf, writesTokens } from "./usage-tokens.ts";

export interface LimitsOptions {
  /** Milliseconds since 1970, never going back. */
  now: () => number;
  /** Tokens that keys have used since midnight UTC, by id. */
  usedToday: ReadonlyMap<string, number>;
  /** Counts what is refused. */
  onRejected: (limit: LimitLabel) => void;
  limiter?: KeyLimiterOptions;
}

/** The most that is set aside for an answer, in tokens: most are shorter than clients allow. */
const MAX_ANSWER_TOKENS = 1024;

/** As metrics and people call them. */
const LIMIT_NAMES = {
  requestsPerMinute: "requests_per_minute",
  tokensPerMinute: "tokens_per_minute",
  concurrency: "concurrency",
  tokensPerDay: "tokens_per_day",
} as const satisfies Record<LimitName, string>;

export type LimitLabel = (typeof LIMIT_NAMES)[LimitName];
export const LIMIT_LABELS: readonly LimitLabel[] = Object.values(LIMIT_NAMES);

export function createAdmit(options: LimitsOptions): Admit {
  const { now, onRejected } = options;
  const limiter = createKeyLimiter(options.limiter ?? KEY_LIMITER_DEFAULTS);
  for (const [keyId, tokens] of options.usedToday) {
    if (keyId !== "") limiter.restore(keyId, tokens, now());
  }
  return ({ key }, facts) => {
    if (key === null) return NO_ADMISSION;
    const { limits } = key;
    const result = limiter.take(key, askOf(facts, limits), now());
    if (result.granted) {
      return {
        refusal: null,
        headers: headersOf(result),
        end(record) {
          const { input, output } = tokensOf(record);
          result.end(input + output, record.startedAt + record.durationMs);
        },
      };
    }
    onRejected(LIMIT_NAMES[result.limit]);
    const headers = headersOf(result);
    const isFinal = result.retryAfterMs === null;
    return {
      refusal: refusalOf(result, limits),
      headers: isFinal ? { ...headers, "x-should-retry": "false" } : headers,
      end() {},
    };
  };
}

/** A prompt is looked at only where its length matters. */
function askOf({ operation, bytes, prompt }: AdmissionFacts, limits: KeyLimits): LimitAsk {
  if (limits.tokensPerMinute === null && limits.tokensPerDay === null) return NO_TOKENS;
  if (!readsPrompt(operation)) return NO_TOKENS;
  const facts = prompt();
  return {
    prompt: estimatedTokens(facts?.bytes ?? bytes),
    answer: writesTokens(operation)
      ? Math.min(facts?.maxTokens ?? MAX_ANSWER_TOKENS, MAX_ANSWER_TOKENS)
      : 0,
  };
}

const NO_TOKENS: LimitAsk = { prompt: 0, answer: 0 };

function refusalOf({ limit, retryAfterMs }: Denied, limits: KeyLimits): LlmnodeError {
  const most = String(limits[limit] ?? 0);
  if (limit === "tokensPerDay" && retryAfterMs === null) {
    const message = `This key has used its ${most} tokens for today; the limit resets at midnight UTC.`;
    return new LlmnodeError("quota_exceeded", message);
  }
  if (retryAfterMs === null) {
    const message = `This request's prompt alone is longer than the ${most} tokens a minute of this key.`;
    return new LlmnodeError("rate_limited", message);
  }
  const again = `Try again in ${formatDuration(Math.max(100, retryAfterMs))}.`;
  return new LlmnodeError("rate_limited", `${REACHED[limit](most)} ${again}`, { retryAfterMs });
}

const REACHED: Record<LimitName, (most: string) => string> = {
  requestsPerMinute: (most) => `This key may make ${most} requests a minute, and has.`,
  tokensPerMinute: (most) => `This key may use ${most} tokens a minute: too few of them are left.`,
  concurrency: (most) => `This key may have ${most} requests running at once, and has.`,
  tokensPerDay: (most) => `What is left of this key's ${most} tokens of today is in use.`,
};

/** Source of the names and forms: OpenAI's API reference, "Rate limits", "headers". */
function headersOf({ requests, tokens }: Shares): Record<string, string> {
  const headers: Record<string, string> = {};
  if (requests !== null) {
    headers["x-ratelimit-limit-requests"] = String(requests.limit);
    headers["x-ratelimit-remaining-requests"] = String(requests.remaining);
    headers["x-ratelimit-reset-requests"] = resetText(requests.resetMs);
  }
  if (tokens !== null) {
    headers["x-ratelimit-limit-tokens"] = String(tokens.limit);
    headers["x-ratelimit-remaining-tokens"] = String(tokens.remaining);
    headers["x-ratelimit-reset-tokens"] = resetText(tokens.resetMs);
  }
  return headers;
}

/** `0s`, `120ms`, `1.5s`, `1m0s`. */
export function resetText(ms: number): string {
  const whole = Math.ceil(ms);
  if (whole > 0 && whole < 1000) return `${whole}ms`;
  const tenths = Math.ceil(whole / 100);
  const minutes = Math.floor(tenths / 600);
  const rest = `${(tenths - 600 * minutes) / 10}s`;
  return minutes === 0 ? rest : `${minutes}m${rest}`;
}

/** Counts the running requests of each client address, so that one client cannot take all. */
export interface AddressLimit {
  /** False when the address has as many as are allowed; then nothing is counted. */
  take(address: string): boolean;
  give(address: string): void;
}

export function createAddressLimit(max: number): AddressLimit {
  const running = new Map<string, number>();
  return {
    take(address) {
      const count = running.get(address) ?? 0;
      if (count >= max) return false;
      running.set(address, count + 1);
      return true;
    },
    give(address) {
      const left = (running.get(address) ?? 0) - 1;
      if (left > 0) running.set(address, left);
      else running.delete(address);
    },
  };
}
