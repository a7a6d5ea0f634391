/** The status page: one file that works without scripts, and is live with them. */

import { createHash } from "node:crypto";
import type { WatchFrame } from "../../protocol/watch-json.ts";
import type { EventRow, ModelRow, WorkerRow } from "../../protocol/watch-rows.ts";
import { cleanLine } from "../../util/text.ts";
import { age, milliseconds, number, percent, share } from "./figures.ts";
import { SCRIPT } from "./script.ts";
import { STYLE } from "./style.ts";

export interface PageFacts {
  frame: WatchFrame;
  /** Where this viewer reaches the head, without a path. */
  apiUrl: string;
  version: string;
}

const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** Nothing but what is in the page itself, and the stream of frames from where it came. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `script-src ${hash(SCRIPT)}`,
  // Widths of bars are set by the script, one by one.
  `style-src ${hash(STYLE)}`,
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export function pageHtml({ frame, apiUrl, version }: PageFacts): string {
  const { totals } = frame;
  const rows = frame.rows as readonly WorkerRow[];
  const isEmpty = totals.workers.total === 0;
  const host = URL.canParse(apiUrl) ? new URL(apiUrl).hostname : apiUrl;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>llmnode ${escape(host)}</title>
<noscript><meta http-equiv="refresh" content="5"></noscript>
<style>${STYLE}</style>
</head>
<body>
<header><h1>llmnode</h1><span id="live" role="status">as of ${escape(frame.time)}</span><span class="dim">up ${age(frame.head.uptime_ms)}</span></header>
<div id="banner" role="alert" aria-live="assertive"></div>
<main>
<ul class="counters" id="counters">${counters(frame)}</ul>
<div id="attention">${frame.attention.map(({ text }) => `<p class="error">${escape(text)}</p>`).join("")}</div>
<div id="empty"${isEmpty ? "" : " hidden"}>
<p>No workers have joined yet. On a GPU machine run:</p>
<pre>llmnode join ${escape(host)} -- vllm serve Qwen/Qwen3-8B</pre>
<p>with the join token that <code>llmnode join-token show</code> prints on the head's machine in <code>LLMNODE_TOKEN</code>. No GPU at hand? <code>llmnode join 127.0.0.1 -- llmnode sim --model demo</code></p>
</div>
<div id="tables"${isEmpty ? " hidden" : ""}>
<h2>Models</h2>
<div class="wrap"><table id="models"><thead><tr><th scope="col">Model</th><th scope="col">Replicas</th><th scope="col" class="n">In flight</th><th scope="col" class="n">Queued</th><th scope="col" class="n opt">Requests/s</th><th scope="col" class="n opt">Tokens/s</th><th scope="col" class="n opt">First token</th><th scope="col" class="n opt">Errors</th></tr></thead><tbody>${frame.models_beside.map(modelRow).join("")}</tbody></table></div>
<h2>Workers</h2>
<div class="wrap"><table id="workers"><thead><tr><th scope="col">Worker</th><th scope="col">State</th><th scope="col" class="wide">Models</th><th scope="col">GPU</th><th scope="col">Memory</th><th scope="col" class="n">In flight</th><th scope="col" class="n opt">Queue</th><th scope="col" class="n opt">Tokens/s</th><th scope="col" class="n opt">Heard</th></tr></thead><tbody>${rows.map(workerRow).join("")}</tbody></table></div>
<p id="more" class="dim">${frame.matching > rows.length ? `Only ${rows.length} of ${frame.matching} workers are shown.` : ""}</p>
</div>
<h2>Events</h2>
<ul id="events">${frame.events.toReversed().map(eventRow).join("")}</ul>
<h2>Connect</h2>
<pre>export OPENAI_BASE_URL=${escape(apiUrl)}/v1

curl ${escape(apiUrl)}/v1/chat/completions -H 'content-type: application/json' \\
  -d '{"model": "${escape(exampleModel(frame))}", "messages": [{"role": "user", "content": "Hello"}]}'</pre>
</main>
<footer>llmnode ${escape(version)}. On a terminal: <code>llmnode top</code></footer>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

/** The same for terminals: what `curl` gets. */
export function pageText({ frame, apiUrl, version }: PageFacts): string {
  const { totals } = frame;
  const rows = frame.rows as readonly WorkerRow[];
  const models = frame.models_beside.map((row) => [
    row.name,
    replicas(row),
    number(row.in_flight),
    number(row.queued),
  ]);
  const workers = rows.map((row) => [
    row.name,
    stateText(row),
    modelNames(row) || "-",
    number(row.in_flight),
  ]);
  const lines = [
    `llmnode ${version}   ${apiUrl}   up ${age(frame.head.uptime_ms)}`,
    `workers ${totals.workers.ready}/${totals.workers.total} ready   models ${totals.models.ready}/${totals.models.total} ready   in flight ${totals.in_flight}   queued ${totals.queued}`,
    ...frame.attention.map(({ text }) => `! ${text}`),
    "",
    ...table(["MODEL", "READY", "INFL", "QUE"], models),
    "",
    ...table(["WORKER", "STATE", "MODELS", "INFL"], workers),
  ];
  return `${lines.map((text) => cleanLine(text, 500)).join("\n")}\n`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows.map((row) => row.map((cell) => cleanLine(cell, 120)))];
  const widths = head.map((_, i) => Math.max(...all.map((row) => Bun.stringWidth(row[i] ?? ""))));
  return all.map((row) =>
    row
      .map((cell, i) => cell + " ".repeat(Math.max(0, (widths[i] ?? 0) - Bun.stringWidth(cell))))
      .join("   ")
      .trimEnd(),
  );
}

function counters({ totals }: WatchFrame): string {
  const { workers, models } = totals;
  const troubled = workers.lost + workers.failed + workers.stale;
  const items: [string, string][] = [
    [`${workers.ready} of ${workers.total}`, "workers ready"],
    [`${models.ready} of ${models.total}`, "models ready"],
    [number(totals.requests_per_s, 1), "requests/s"],
    [number(totals.output_tokens_per_s, 1), "tokens/s"],
    [milliseconds(totals.ttft_ms?.p50 ?? null), "first token"],
    [number(totals.in_flight), "in flight"],
    [number(totals.queued), "queued"],
  ];
  if (troubled > 0) items.push([String(troubled), "need attention"]);
  return items
    .map(([value, what]) => `<li><b>${escape(value)}</b><span>${what}</span></li>`)
    .join("");
}

function workerRow(row: WorkerRow): string {
  const memory = share(row.gpu_mem_used_bytes, row.gpu_mem_total_bytes);
  return `<tr><th scope="row">${escape(row.name)}</th><td><span class="${row.state}">${escape(stateText(row))}</span></td><td class="wide">${escape(modelNames(row) || "-")}</td><td>${percent(row.gpu_util_pct)}</td><td>${percent(memory)}</td><td class="n">${number(row.in_flight)}</td><td class="n opt">${number(row.queue)}</td><td class="n opt">${number(row.output_tokens_per_s, 1)}</td><td class="n opt">${age(row.seen_ms)}</td></tr>`;
}

function modelRow(row: ModelRow): string {
  const errors = row.error_ratio === null ? "-" : `${(100 * row.error_ratio).toFixed(1)}%`;
  const alias =
    row.alias_of === null ? "" : ` <span class="dim">alias of ${escape(row.alias_of)}</span>`;
  return `<tr><th scope="row"><code>${escape(row.name)}</code>${alias}</th><td>${escape(replicas(row))}</td><td class="n">${number(row.in_flight)}</td><td class="n">${number(row.queued)}</td><td class="n opt">${number(row.requests_per_s, 1)}</td><td class="n opt">${number(row.output_tokens_per_s, 1)}</td><td class="n opt">${milliseconds(row.ttft_ms?.p50 ?? null)}</td><td class="n opt">${errors}</td></tr>`;
}

function eventRow({ time, level, worker, model, text }: EventRow): string {
  const who = worker ?? model;
  const tone = level === "info" ? "" : level === "warn" ? "changing" : "error";
  return `<li class="${tone}"><time datetime="${escape(time)}">${escape(time.slice(11, 19))}</time>${escape(who === null ? text : `${who}: ${text}`)}</li>`;
}

function stateText({ state, state_detail }: WorkerRow): string {
  return state_detail === null ? state : `${state} ${state_detail}`;
}

function modelNames({ models }: WorkerRow): string {
  return models.map(({ name, engines }) => (engines > 1 ? `${name} x${engines}` : name)).join(", ");
}

function replicas({ alias_of, ready, replicas: all, starting }: ModelRow): string {
  if (alias_of !== null) return "alias";
  return `${ready} of ${all}${starting > 0 ? `, ${starting} starting` : ""}`;
}

function exampleModel({ models_beside }: WatchFrame): string {
  return models_beside.find(({ ready }) => ready > 0)?.name ?? models_beside[0]?.name ?? "MODEL";
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** For text and for values in double quotes. */
function escape(text: string): string {
  return cleanLine(text, 500).replace(/[&<>"']/g, (char) => ENTITIES[char] ?? "");
}
