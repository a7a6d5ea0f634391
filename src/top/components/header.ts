/** The lines at the top: which head, how fresh, how many of what, how much passes. */

import type { TotalsJson, WatchFrame } from "../../protocol/watch-json.ts";
import { formatDuration } from "../../util/units.ts";
import { cutEnd } from "../text/columns.ts";
import { countText, rateText, timeText, tokenRateText } from "../text/figures.ts";
import {
  clean,
  type Line,
  line,
  span,
  spread,
  type Span,
  type Tone,
  widthOf,
} from "../text/styled.ts";
import { freshness, hasBanner, mayAct, shownFrame, type TopState } from "../state/state.ts";
import { type DrawnLine, drawn, drawnText } from "./drawn.ts";

const GAP = span("   ");

export function titleLine(state: TopState, width: number): DrawnLine {
  const { hello, options } = state;
  const frame = shownFrame(state);
  const uptime = frame ? frame.head.uptime_ms + (state.now - state.frameAt) : null;
  const who: Span[] = [
    span(`llmnode ${hostOf(options.head)}`, "strong"),
    GAP,
    ...freshnessSpans(state),
  ];
  const up = uptime === null ? [] : [GAP, span(`up ${formatDuration(uptime)}`)];
  const facts: Span[] = [];
  if (width >= 120 && frame) {
    const { cpu_pct, mem_used_bytes } = frame.head;
    const cpu = cpu_pct === null ? "-" : `${Math.round(cpu_pct)}%`;
    const memory = mem_used_bytes === null ? "-" : `${Math.round(mem_used_bytes / 1024 ** 2)}M`;
    facts.push(GAP, span(`head cpu ${cpu} rss ${memory}`));
    if (hello) facts.push(GAP, span(`llmnode ${clean(hello.head.version, 40)}`));
  }
  const rights = mayAct(state).may ? "RW" : "RO";
  const role = hello === null ? "" : ` ${clean(hello.role, 20)}`;
  const every = state.intervalMs === 1000 ? "" : `${(state.intervalMs / 1000).toFixed(1)}s   `;
  const right = (named: string) => [span(`   ${every}${rights}${named}   ${clock(state)}`)];
  // What matters least goes first.
  const choices: { left: Span[]; right: Span[] }[] = [
    { left: [...who, ...up, ...facts], right: right(role) },
    { left: [...who, ...up], right: right(role) },
    { left: [...who, ...up], right: right("") },
  ];
  const fits = choices.find((one) => widthOf(one.left) + widthOf(one.right) <= width);
  const { left, right: end } = fits ?? { left: who, right: right("") };
  return { spans: spread(left, end, width) };
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url;
}

/** By the head's clock, going on from when the frame came. */
function clock(state: TopState): string {
  const frame = shownFrame(state);
  const headTime = frame?.time ?? state.hello?.head.time;
  if (headTime === undefined) return "--:--:--";
  const isStill = state.frozen !== null;
  return timeOfDay(Date.parse(headTime) + (isStill ? 0 : state.now - state.frameAt));
}

/** `14:02:31`, in this machine's time zone. */
export function timeOfDay(at: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "--:--:--";
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

function freshnessSpans(state: TopState): Line {
  const { connection, now, frame, frameAt, frozen } = state;
  if (frozen) return line(`FROZEN ${formatDuration(now - frozen.at)}`, "chosen");
  const age = formatDuration(now - frameAt);
  switch (freshness(state)) {
    case "connecting": {
      const since = connection.state === "open" ? now : connection.since;
      return line(`connecting (${formatDuration(now - since)})`, "changing");
    }
    case "live":
      return line(`LIVE ${age}`, "good");
    case "slow":
      return line(`SLOW ${age}`, "changing");
    case "stale":
      return [span(`STALE ${age}`, "lost"), span(`   last data ${lastData(state)}`)];
    case "auth":
      return [span("NOT ALLOWED", "broken"), span(frame ? `   last data ${lastData(state)}` : "")];
  }
}

function lastData({ frame }: TopState): string {
  return frame ? timeOfDay(Date.parse(frame.time)) : "never";
}

/** What is wrong with the connection, and what happens next; null while nothing is. */
export function bannerLine(state: TopState, width: number): DrawnLine | null {
  if (!hasBanner(state)) return null;
  const { connection, now, frameAt } = state;
  if (connection.state !== "down") {
    const silent = `!! nothing from the head for ${formatDuration(now - frameAt)}`;
    return drawnText(`${silent} (Ctrl-R reconnects, q quit) !!`, width, "broken");
  }
  const { reason, attempt, retryAt, isAuth, isTrying } = connection;
  const wait = formatDuration(Math.max(0, retryAt - now)).replace(/\.\ds$/, "s");
  const next = isTrying
    ? `Retry ${attempt} now`
    : `Retry ${attempt} in ${wait} (Ctrl-R now, q quit)`;
  // What comes next matters more than the end of a long reason.
  const what = isAuth ? `the head refuses: ${clean(reason)}` : `head unreachable: ${clean(reason)}`;
  const tail = `. ${next} !!`;
  return drawnText(
    `!! ${cutEnd(what, Math.max(10, width - 3 - tail.length))}${tail}`,
    width,
    "broken",
  );
}

export function counterLine(frame: WatchFrame | null, width: number): DrawnLine {
  if (frame === null) return drawnText("", width);
  const { workers, gpus, models, replicas } = frame.totals;
  if (workers.total === 0) return drawnText("workers 0   gpus 0   models 0", width);
  const parts: Line[] = [
    [span(`workers ${workers.total}: `), ...workerCounts(workers)],
    line(gpusText(gpus, width)),
    line(
      `models ${models.ready}/${models.total}`,
      models.ready < models.total ? "changing" : "plain",
    ),
    line(`${width >= 120 ? "replicas" : "repl"} ${replicas.ready}/${replicas.total}`),
  ];
  if (width >= 120) {
    const { clients } = frame.totals;
    if (clients !== null) parts.push(line(`clients ${clients}`));
  }
  const wide = joined(parts, "   ");
  return drawn(widthOf(wide) <= width ? wide : joined(parts, " "), width);
}

function workerCounts(workers: TotalsJson["workers"]): Span[] {
  const counts: [number, string, Tone][] = [
    [workers.ready, "ready", "plain"],
    [workers.starting, "load", "changing"],
    [workers.draining, "drain", "intended"],
    [workers.stale, "stale", "stale"],
    [workers.failed, "fail", "broken"],
    [workers.lost, "lost", "lost"],
  ];
  const shown = counts.filter(([n]) => n > 0);
  return shown.flatMap(([n, word, tone], i) => [
    ...(i === 0 ? [] : [span(" ")]),
    span(`${n} ${word}`, tone),
  ]);
}

function gpusText(gpus: TotalsJson["gpus"], width: number): string {
  const text = `gpus ${gpus.ready}/${gpus.total}`;
  if (width < 120 || gpus.total === 0) return text;
  const parts = [text, gpus.name ?? ""].filter((part) => part !== "");
  if (gpus.util_pct !== null) parts.push(` util ${Math.round(gpus.util_pct)}%`);
  if (gpus.mem_used_bytes !== null && gpus.mem_total_bytes) {
    parts.push(` mem ${Math.round((100 * gpus.mem_used_bytes) / gpus.mem_total_bytes)}%`);
  }
  if (gpus.power_w !== null) parts.push(` ${(gpus.power_w / 1000).toFixed(1)} kW`);
  return parts.join(" ");
}

function joined(parts: readonly Line[], gap: string): Line {
  return parts.flatMap((part, i) => (i === 0 ? part : [span(gap), ...part]));
}

/** As much as there is room for: no figure is cut. */
export function trafficLine(frame: WatchFrame | null, width: number): DrawnLine {
  if (frame === null) return drawnText("", width);
  const { totals } = frame;
  const wide = trafficParts(totals, true);
  const all = [...wide];
  if (totals.retries > 0) all.push(line(`retries ${countText(totals.retries)}`));
  if (totals.resumed > 0) all.push(line(`resumed ${countText(totals.resumed)}`));
  const choices = [joined(all, "   "), joined(all, "  "), joined(wide, "   "), joined(wide, "  ")];
  const fitting = width < 120 ? undefined : choices.find((one) => widthOf(one) <= width);
  return drawn(fitting ?? joined(trafficParts(totals, false), "  "), width);
}

function trafficParts(totals: TotalsJson, isWide: boolean): Line[] {
  const { ttft_ms: ttft, itl_ms: itl } = totals;
  const input = isWide ? ` out ${tokenRateText(totals.input_tokens_per_s)} in` : "";
  const parts: Line[] = [
    line(`req/s ${rateText(totals.requests_per_s)}`),
    line(`tok/s ${tokenRateText(totals.output_tokens_per_s)}${input}`),
    line(`TTFT ${timeText(ttft?.p50 ?? null)}/${timeText(ttft?.p95 ?? null)} p50/p95`),
  ];
  if (isWide) {
    parts.push(line(`ITL ${timeText(itl?.p50 ?? null)}/${timeText(itl?.p95 ?? null)} p50/p95`));
  }
  parts.push(
    line(`${isWide ? "in flight" : "infl"} ${countText(totals.in_flight)}`),
    line(`queue ${countText(totals.queued)}`, totals.queued > 0 ? "changing" : "plain"),
    errorsOf(totals, isWide),
  );
  return parts;
}

function errorsOf({ error_ratio }: TotalsJson, isWide: boolean): Line {
  const text = error_ratio === null ? "-" : `${(error_ratio * 100).toFixed(1)}%`;
  return line(
    `${isWide ? "errors" : "err"} ${text}`,
    (error_ratio ?? 0) > 0.01 ? "broken" : "plain",
  );
}

/** All there is room for on a screen of a few rows. */
export function tinyLine(state: TopState, width: number): DrawnLine {
  const frame = shownFrame(state);
  if (frame === null) return drawn(freshnessSpans(state), width);
  const { workers, queued, output_tokens_per_s } = frame.totals;
  const lost = workers.lost > 0 ? [span(" "), span(`${workers.lost} lost`, "lost")] : [];
  const fresh = freshness(state);
  const age: Span[] = fresh === "live" ? [] : [span(` ${fresh.toUpperCase()}`, "broken")];
  return drawn(
    [
      span(`${workers.ready}/${workers.total} ready`),
      ...lost,
      ...age,
      span(` q${queued} ${tokenRateText(output_tokens_per_s)} tok/s`),
    ],
    width,
  );
}
