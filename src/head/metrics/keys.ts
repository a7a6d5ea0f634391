/** The metrics by API key: tokens, requests that limits refused, requests without access. */

import { LIMIT_LABELS, type LimitLabel } from "../quota/limits.ts";
import { createLabelGuard, once, OTHER } from "./labels.ts";
import type { Count, Registry } from "./prometheus.ts";

export type AuthFailure = (typeof REASONS)[number];
const REASONS = [
  "missing",
  "malformed",
  "conflicting",
  "unknown",
  "wrong",
  "expired",
  "revoked",
  "not_allowed",
] as const;

export interface KeyMetrics {
  /** `keyId` null: a request without a key; such series have no label for it. */
  tokens(keyId: string | null, model: string): TokenCounts;
  limitRejected(limit: LimitLabel): void;
  authFailed(reason: AuthFailure): void;
}

/** Counts the tokens of a type; the model and the key are given. */
export type TokenCounts = (type: string, count: number) => void;

interface KeyMetricsLimits {
  /** Keys with series of their own; the rest share one. */
  maxKeys: number;
  /** Series by key and model that are kept apart. */
  maxKeySeries: number;
}

export function registerKeyMetrics(registry: Registry, limits: KeyMetricsLimits): KeyMetrics {
  const keyLabel = createLabelGuard(limits.maxKeys);
  /** By key, then by model. */
  const counts = new Map<string | null, Map<string, TokenCounts>>();
  let size = 0;
  const tokens = registry.counter({
    name: "llmnode_tokens_total",
    help: "Tokens by type, and by key id where a key was used. output_estimated: counted from the pieces of a stream that broke off.",
    labelNames: ["key", "model", "type"],
  });
  const rejections = registry.counter({
    name: "llmnode_limit_rejections_total",
    help: "Requests refused by a limit of their key.",
    labelNames: ["limit"],
  });
  const failures = registry.counter({
    name: "llmnode_auth_failures_total",
    help: "Requests refused for their credentials, by reason.",
    labelNames: ["reason"],
  });
  // From the start, so that the first one shows as a rise.
  for (const limit of LIMIT_LABELS) rejections.inc({ limit }, 0);
  for (const reason of REASONS) failures.inc({ reason }, 0);
  const createCounts = (key: string | null, model: string): TokenCounts => {
    const types = new Map<string, Count>();
    return (type, count) => {
      const make = () => tokens.series({ key: key ?? undefined, model, type });
      once(types, type, make).value += count;
    };
  };
  const countsOf = (key: string | null, model: string): TokenCounts => {
    const found = counts.get(key)?.get(model);
    if (found) return found;
    if (key !== null && size < limits.maxKeySeries) size += 1;
    else if (key !== null && key !== OTHER) return countsOf(OTHER, model);
    const models = once(counts, key, () => new Map<string, TokenCounts>());
    return once(models, model, () => createCounts(key, model));
  };
  return {
    tokens: (keyId, model) => countsOf(keyId === null ? null : keyLabel(keyId), model),
    limitRejected: (limit) => rejections.inc({ limit }),
    authFailed: (reason) => failures.inc({ reason }),
  };
}
