/** The pages of one worker, one model, one request. */

import type {
  DrainRow,
  EngineRow,
  ModelRow,
  RequestRow,
  WorkerRow,
} from "../../protocol/watch-rows.ts";
import { formatDuration } from "../../util/units.ts";
import { bar } from "../text/bars.ts";
import { cutEnd, fitText } from "../text/columns.ts";
import {
  countText,
  memoryText,
  percentText,
  timeText,
  tokenRateText,
  UNKNOWN,
} from "../text/figures.ts";
import { capacity, graph } from "../text/graph.ts";
import { clean, line, span, type Span } from "../text/styled.ts";
import { type DrawnLine, drawn, type DrawOptions, drawnText, rule } from "./drawn.ts";
import { stateSpans } from "./state-words.ts";
import { fullness } from "./workers.ts";

export function workerDetail(
  worker: WorkerRow,
  options: DrawOptions & { width: number },
): DrawnLine[] {
  const { width } = options;
  const labels = Object.entries(worker.labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
  const facts = [
    worker.address,
    worker.route ?? "",
    `llmnode ${worker.version}`,
    `heard ${formatDuration(worker.seen_ms)} ago`,
    worker.uptime_ms === null ? "" : `up ${formatDuration(worker.uptime_ms)}`,
  ].filter((part) => part !== "");
  const lines: DrawnLine[] = [
    drawn([...stateSpans(worker, 26), span(clean(facts.join("   "), 300))], width),
  ];
  if (worker.reason) lines.push(drawnText(clean(worker.reason, 400), width, "changing"));
  if (worker.drain) lines.push(drawnText(drainText(worker.drain), width, "intended"));
  if (labels !== "") lines.push(drawnText(`labels ${clean(labels, 400)}`, width, "dim"));
  for (const engine of worker.engines ?? []) lines.push(...engineLines(engine, options));
  lines.push(...gpuLines(worker, options));
  lines.push(...sparkline(worker, options));
  return lines;
}

function drainText(drain: DrainRow): string {
  const deadline = drain.deadline === null ? "" : `, until ${drain.deadline}`;
  const message = drain.message === null ? "" : `: ${clean(drain.message, 200)}`;
  return `drained by ${clean(drain.who, 60)} since ${drain.since}${deadline}${message}`;
}

/** The order in which an engine starts; what its log has shown is behind it. */
const PHASES = ["pull", "spawn", "download", "load", "compile", "warmup"] as const;

function engineLines(engine: EngineRow, options: DrawOptions & { width: number }): DrawnLine[] {
  const { width } = options;
  const figures = [
    `infl ${countText(engine.in_flight)}${engine.max_in_flight === null ? "" : `/${engine.max_in_flight}`}`,
    `queue ${countText(engine.queue)}`,
    `kv ${percentText(engine.kv_pct)}`,
    `${tokenRateText(engine.output_tokens_per_s)} tok/s`,
    `ttft ${timeText(engine.ttft_ms?.p50 ?? null)}`,
  ].join("  ");
  const process = [
    engine.pid === null ? "" : `pid ${engine.pid}`,
    engine.container === null ? "" : `container ${clean(engine.container, 60)}`,
    engine.port === null ? "" : `port ${engine.port}`,
    engine.restarts > 0 ? `${engine.restarts} restarts` : "",
  ].filter((part) => part !== "");
  const lines = [
    rule(`engine ${clean(engine.name)} ${clean(engine.kind, 30)}`, width),
    drawn([...stateSpans(engine, 26), span(figures)], width),
    drawnText(
      `${engine.models.map((name) => clean(name)).join(" ") || UNKNOWN}   ${process.join("   ")}`,
      width,
      "dim",
    ),
  ];
  if (engine.state === "starting") lines.push(...loadLines(engine, options));
  if (engine.reason) lines.push(drawnText(clean(engine.reason, 400), width, "changing"));
  if (engine.hint) lines.push(drawnText(`what to do: ${clean(engine.hint, 400)}`, width));
  for (const text of engine.evidence) lines.push(drawnText(`| ${clean(text, 400)}`, width, "dim"));
  return lines;
}

/** What is behind it, where it is, what is still to come; no time that is not known. */
function loadLines(
  engine: EngineRow,
  { width, charset }: DrawOptions & { width: number },
): DrawnLine[] {
  const [phaseNow] = engine.phase?.split(" ") ?? [];
  const at = PHASES.findIndex((phase) => phase === phaseNow);
  if (at < 0) {
    const since = formatDuration(engine.phase_ms ?? engine.state_ms);
    return [drawnText(`[>] ${clean(engine.phase ?? "starting", 60)} ${since}`, width, "changing")];
  }
  return PHASES.slice(Math.min(at, 1)).map((phase) => {
    const index = PHASES.indexOf(phase);
    const isNow = index === at;
    const sign = isNow ? "[>]" : index < at ? "[x]" : "[ ]";
    const spans: Span[] = [span(`${sign} ${phase.padEnd(10)}`, isNow ? "changing" : "dim")];
    if (isNow) {
      spans.push(span(formatDuration(engine.phase_ms ?? engine.state_ms).padEnd(8)));
      if (engine.progress_pct !== null) {
        spans.push(
          span(bar(engine.progress_pct / 100, 22, charset), "changing"),
          span(` ${percentText(engine.progress_pct)}`),
        );
      }
    }
    return drawn(spans, width);
  });
}

function gpuLines(worker: WorkerRow, options: DrawOptions & { width: number }): DrawnLine[] {
  const { width, charset } = options;
  const head = rule("gpus", width);
  if (worker.gpus.length === 0) {
    return [head, drawnText(clean(worker.gpu_problem ?? "none is known", 300), width, "dim")];
  }
  const lines = worker.gpus.map((gpu) => {
    const { mem_used_bytes: used, mem_total_bytes: total } = gpu;
    const memory = used === null || !total ? null : used / total;
    return drawn(
      [
        span(fitText(String(gpu.index), 3, "right")),
        span(" "),
        span(bar(gpu.util_pct === null ? null : gpu.util_pct / 100, 6, charset)),
        span(fitText(percentText(gpu.util_pct), 5, "right")),
        span(" "),
        span(bar(memory, 12, charset), fullness(memory)),
        span(fitText(memoryText(used, total), 10, "right")),
        span(fitText(gpu.temp_c === null ? UNKNOWN : `${Math.round(gpu.temp_c)}C`, 6, "right")),
        span(fitText(gpu.power_w === null ? UNKNOWN : `${Math.round(gpu.power_w)}W`, 7, "right")),
        span(`  ${clean(gpu.name, 40)}`, "dim"),
      ],
      width,
    );
  });
  const titles = "  # UTIL        MEM                      TEMP  POWER  NAME";
  return [head, drawnText(titles, width, "dim"), ...lines];
}

function sparkline(worker: WorkerRow, options: DrawOptions & { width: number }): DrawnLine[] {
  const { width, graphs } = options;
  const values = worker.sparkline ?? [];
  if (!values.some((value) => value !== null && value > 0)) return [];
  const cells = Math.min(
    width - 2,
    Math.max(10, Math.ceil(values.length / (capacity(1, graphs) || 1))),
  );
  const rows = graph(values, { width: cells, height: 2, style: graphs });
  return [
    rule("tok/s, last 2 minutes", width),
    ...rows.map((row) => drawn(line(row, "graph"), width)),
  ];
}

export function modelDetail(model: ModelRow, width: number): DrawnLine[] {
  const facts = [
    model.alias_of === null ? "" : `alias of ${clean(model.alias_of)}`,
    `${model.ready} of ${model.replicas} replicas ready`,
    `${model.in_flight} in flight`,
    `${model.queued} queued`,
    model.context === null ? "" : `context ${model.context}`,
    `ttft ${timeText(model.ttft_ms?.p50 ?? null)}/${timeText(model.ttft_ms?.p95 ?? null)}`,
  ].filter((part) => part !== "");
  return [
    drawnText(facts.join("   "), width),
    rule("replicas", width),
    ...replicaLines(model, width),
  ];
}

/** A line for each engine that has the model. */
export function replicaLines(model: ModelRow, width: number): DrawnLine[] {
  const engines = model.engines ?? [];
  if (engines.length === 0) return [drawnText(" no engine has it now", width, "dim")];
  const names = Math.min(32, Math.max(10, ...engines.map(({ name }) => Bun.stringWidth(name))));
  return engines.map((engine) =>
    drawn(
      [
        span(` ${fitText(cutEnd(clean(engine.name), names), names)} `),
        ...stateSpans(engine, 13),
        span(replicaFigures(engine)),
      ],
      width,
    ),
  );
}

function replicaFigures(engine: EngineRow): string {
  const right = (text: string, cells: number) => fitText(text, cells, "right");
  return [
    `infl ${right(countText(engine.in_flight), 4)}`,
    `que ${right(countText(engine.queue), 3)}`,
    `${right(tokenRateText(engine.output_tokens_per_s), 5)} tok/s`,
    `kv ${right(percentText(engine.kv_pct), 4)}`,
    `ttft ${timeText(engine.ttft_ms?.p50 ?? null)}`,
  ].join("  ");
}

export function requestDetail(request: RequestRow | null, width: number): DrawnLine[] {
  if (request === null) return [drawnText("this request has ended", width, "dim")];
  const facts = [
    `${request.phase} for ${formatDuration(request.age_ms)}`,
    request.path,
    `model ${clean(request.model ?? UNKNOWN)}`,
    `worker ${clean(request.worker ?? UNKNOWN)}`,
    `key ${clean(request.key ?? UNKNOWN, 60)}`,
  ];
  const figures = [
    `in ${request.input_tokens ?? UNKNOWN} tokens`,
    `out ${request.output_tokens} tokens`,
    `queued ${timeText(request.queue_ms)}`,
    `first token ${timeText(request.ttft_ms)}`,
    `${request.attempts} ${request.attempts === 1 ? "attempt" : "attempts"}`,
  ];
  return [
    drawnText(facts.join("   "), width),
    drawnText(figures.join("   "), width),
    rule("what has become of it", width),
    ...request.timeline.map(({ at_ms, text }) =>
      drawn([span(fitText(timeText(at_ms), 8, "right"), "dim"), span(`  ${clean(text)}`)], width),
    ),
    drawnText("", width),
    drawnText("ids, sizes and timings only: prompts and outputs are never shown", width, "dim"),
  ];
}
