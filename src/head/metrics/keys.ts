/** The metrics by API key: tokens, requests that limits refused, requests without access. */

import { LIMIT_LABELS, type LimitLabel } from "../quota/limits.ts";
import { createLabelGuard, OTHER } from "./labels.ts";
import type { Registry } from "./prometheus.ts";

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
  tokens(keyId: string | null, labels: { model: string; type: string }, count: number): void;
  limitRejected(limit: LimitLabel): void;
  authFailed(reason: AuthFailure): void;
}

interface KeyMetricsLimits {
  /** Keys with series of their own; the rest share one. */
  maxKeys: number;
  /** Series by key and model that are kept apart. */
  maxKeySeries: number;
}

export function registerKeyMetrics(registry: Registry, limits: KeyMetricsLimits): KeyMetrics {
  const keyLabel = createLabelGuard(limits.maxKeys);
  const series = new Set<string>();
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
  const keyOf = (keyId: string, model: string): string => {
    const key = keyLabel(keyId);
    const name = `${key}\0${model}`;
    if (series.has(name)) return key;
    if (series.size >= limits.maxKeySeries) return OTHER;
    series.add(name);
    return key;
  };
  return {
    tokens(keyId, { model, type }, count) {
      tokens.inc(
        keyId === null ? { model, type } : { model, type, key: keyOf(keyId, model) },
        count,
      );
    },
    limitRejected: (limit) => rejections.inc({ limit }),
    authFailed: (reason) => failures.inc({ reason }),
  };
}
