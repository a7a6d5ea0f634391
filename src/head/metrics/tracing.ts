/** Sends one span per request and one per attempt to an OpenTelemetry collector, by OTLP/HTTP. */

import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import { cleanLine, count } from "../../util/text.ts";
import { spansOf } from "./tracing-spans.ts";

interface TracingOptions {
  /** The collector: its base, such as `http://localhost:4318`, or the whole path. */
  url: string;
  version: string;
  log: Log;
  limits?: Partial<TracingLimits>;
}

const TRACING_LIMITS = {
  /** Spans that may wait; further ones are dropped and counted. */
  maxQueuedSpans: 8192,
  /** Spans in one message. */
  batchSpans: 512,
  /** How long a span waits for others. */
  flushMs: 5000,
  /** How long one message may take, tries included. */
  exportTimeoutMs: 10_000,
  /** How often at most failures are logged. */
  failureLogMs: 60_000,
  /** How long the end waits for what is queued. */
  stopTimeoutMs: 2000,
};
export type TracingLimits = typeof TRACING_LIMITS;

/**
 * Headers for the collector (a key, for instance) and compression come from OpenTelemetry's own
 * `OTEL_EXPORTER_OTLP_*` environment. Throws `usage` for what is no http address.
 */
export async function startTracing(options: TracingOptions) {
  const limits = { ...TRACING_LIMITS, ...options.limits };
  const url = tracesUrl(options.url);
  const losses = lossLog(options.log, { url, everyMs: limits.failureLogMs });
  const otlp = new OTLPTraceExporter({
    url,
    timeoutMillis: limits.exportTimeoutMs,
    httpAgentOptions: { keepAlive: false },
  });
  let queued = 0;
  const exporter: SpanExporter = {
    export(spans, done) {
      queued -= spans.length;
      otlp.export(spans, (result) => {
        // ExportResultCode.SUCCESS; the batches go on either way.
        if (result.code !== 0) losses.add(spans.length, result.error?.message ?? "unknown error");
        done({ code: 0 });
      });
    },
    shutdown: () => otlp.shutdown(),
  };
  const processor = new BatchSpanProcessor({
    exporter,
    maxQueueSize: limits.maxQueuedSpans,
    maxExportBatchSize: Math.min(limits.batchSpans, limits.maxQueuedSpans),
    scheduledDelayMillis: limits.flushMs,
    // The exporter's own limit comes first.
    exportTimeoutMillis: limits.exportTimeoutMs * 2,
  });
  const resource = resourceFromAttributes({
    "service.name": "llmnode",
    "service.version": options.version,
  });
  let stopped: Promise<void> | null = null;

  const stop = async () => {
    const enough = new AbortController();
    await Promise.race([processor.shutdown(), sleep(limits.stopTimeoutMs, enough.signal)]);
    enough.abort();
    losses.flush();
  };
  return {
    /** Never throws and never waits. */
    onRecord(record: RequestRecord) {
      if (stopped) return;
      const spans = spansOf(record, { resource, version: options.version });
      if (queued + spans.length > limits.maxQueuedSpans) {
        losses.add(spans.length, "the queue is full");
        return;
      }
      queued += spans.length;
      for (const span of spans) processor.onEnd(span);
    },
    [Symbol.asyncDispose]: () => (stopped ??= stop()),
  };
}

/** The first loss is logged at once, later ones together, not too often. */
function lossLog(log: Log, { url, everyMs }: { url: string; everyMs: number }) {
  let lost = 0;
  let reason = "";
  let loggedAt = Number.NEGATIVE_INFINITY;
  const flush = () => {
    if (lost === 0) return;
    log.warn(`cannot export traces: ${count(lost, "span")} lost`, { url, reason });
    lost = 0;
    loggedAt = performance.now();
  };
  return {
    flush,
    add(spans: number, why: string) {
      lost += spans;
      reason = cleanLine(why === "" ? "unknown error" : why, 300);
      if (performance.now() - loggedAt >= everyMs) flush();
    },
  };
}

/** Where traces go below a collector's base. Source: OpenTelemetry Protocol Exporter, "Endpoint URLs". */
function tracesUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new LlmnodeError("usage", `${cleanLine(text, 200)} is not the address of a collector`, {
      hints: ["for instance: --otlp http://localhost:4318"],
    });
  }
  if (url.pathname === "/") url.pathname = "/v1/traces";
  return url.href;
}
