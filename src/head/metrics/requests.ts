/** Counts finished requests: how long they took, what they used, how they and their tries ended. */

import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Usage } from "../../proxy/record/usage.ts";
import {
  answering,
  disconnectPhaseOf,
  errorCodeOf,
  isTruncated,
  modelOf,
  overheadMs,
  soundCount,
  timePerOutputTokenMs,
  timeToFirstTokenMs,
} from "../../proxy/record/record-facts.ts";
import type { KeyMetrics, TokenCounts } from "./keys.ts";
import type { LabelGuard } from "./labels.ts";
import type { Registry } from "./prometheus.ts";
import {
  type Kind,
  type Place,
  registerRequestSeries,
  type RequestSeries,
} from "./request-series.ts";

interface RequestMetricsOptions {
  label: LabelGuard;
  keys: KeyMetrics;
  /** Series by worker, model and outcome that are kept apart. */
  maxWorkerSeries: number;
}

export function registerRequestMetrics(registry: Registry, options: RequestMetricsOptions) {
  const { label, keys } = options;
  const series = registerRequestSeries(registry, options.maxWorkerSeries);
  return {
    observe(record: RequestRecord) {
      const model = label(modelOf(record));
      const used = record.attempts.at(-1);
      const asked = record.modelKnown && record.model !== null ? label(record.model) : model;
      const answered = used?.outcome === "ok" ? label(used.model) : undefined;
      const facts: Facts = {
        kind: series.kind(record.operation, asked, answered),
        place: series.place(record.route, model),
        code: errorCodeOf(record),
      };
      observeTimes(record, facts);
      countEnd(record, facts);
      countTries(record, { series, label, place: facts.place });
      const { usage } = record;
      if (usage === null) return;
      const ofKey = () => keys.tokens(record.key?.id ?? null, model);
      countTokens(usage, { kind: facts.kind, ofKey, isEstimated: record.usageEstimated });
    },
    /** Drops the series of workers for which `isKnown` is false. */
    prune(isKnown: (worker: string) => boolean) {
      series.attempts.prune(isKnown);
      series.truncated.prune(isKnown);
    },
  };
}

/** Of one request. */
interface Facts {
  kind: Kind;
  place: Place;
  /** Null for a good end. */
  code: string | null;
}

function observeTimes(record: RequestRecord, { kind, place, code }: Facts): void {
  kind.duration(code).observe(seconds(record.durationMs));
  const firstMs = timeToFirstTokenMs(record);
  if (firstMs !== null) kind.firstToken.observe(seconds(firstMs));
  const perTokenMs = timePerOutputTokenMs(record);
  if (perTokenMs !== null) kind.perToken.observe(seconds(perTokenMs));
  const addedMs = overheadMs(record);
  if (addedMs !== null) place.overhead.observe(seconds(addedMs));
  if (record.attempts.length > 0) place.queueWait.observe(seconds(record.queueMs));
}

function countEnd(record: RequestRecord, { place, code }: Facts): void {
  place.total(record.status).value += 1;
  if (code !== null) place.error(code).value += 1;
  if (record.resume !== null) place.resumed(record.resume);
  const phase = disconnectPhaseOf(record);
  if (phase !== null) place.disconnected(phase);
}

function countTries(
  record: RequestRecord,
  to: { series: RequestSeries; label: LabelGuard; place: Place },
): void {
  const { series, label, place } = to;
  const { attempts } = record;
  for (const [i, { model, worker, outcome }] of attempts.entries()) {
    series.attempts.inc(worker, label(model), outcome);
    if (i < attempts.length - 1) place.retried(outcome);
  }
  const answered = isTruncated(record) ? answering(attempts) : undefined;
  if (answered) series.truncated.inc(answered.worker, label(answered.model));
}

function countTokens(
  usage: Usage,
  to: { kind: Kind; ofKey: () => TokenCounts; isEstimated: boolean },
): void {
  // Looked up with the first number that is one: until then nothing is counted of the key.
  let counts: TokenCounts | null = null;
  const count = (type: string, reported: number | null) => {
    const tokens = soundCount(reported);
    if (tokens === null) return;
    counts ??= to.ofKey();
    counts(type, tokens);
    if (type !== "output_estimated") to.kind.tokenUsage(type).observe(tokens);
  };
  count("input", usage.input);
  count("cached_input", usage.cachedInput);
  count(to.isEstimated ? "output_estimated" : "output", usage.output);
  count("reasoning", usage.reasoning);
}

/** A clock that was set back gives 0. */
function seconds(ms: number): number {
  return Math.max(0, ms) / 1000;
}
