/** Four graphs of the last minutes, and the strip with a mark for each worker. */

import type { HistoryPoint } from "../../protocol/watch-json.ts";
import { formatDuration } from "../../util/units.ts";
import { fitText } from "../text/columns.ts";
import { countText, timeText, tokenRateText } from "../text/figures.ts";
import { capacity, graph } from "../text/graph.ts";
import { type Line, line, span, type Span, type Tone } from "../text/styled.ts";
import { type DrawnLine, drawn, type DrawOptions } from "./drawn.ts";

const GRAPHS = [
  {
    title: "tok/s out",
    of: (point: HistoryPoint) => point.output_tokens_per_s,
    text: tokenRateText,
  },
  { title: "TTFT p95", of: (point: HistoryPoint) => point.ttft_p95_ms, text: timeText },
  { title: "in flight", of: (point: HistoryPoint) => point.in_flight, text: countText },
  { title: "queue", of: (point: HistoryPoint) => point.queued, text: countText },
] as const;

/** Rows of the graph itself; a head and a foot are added. */
const HEIGHT = 4;

export function graphLines(
  history: readonly HistoryPoint[],
  options: DrawOptions & { width: number; intervalMs: number },
): DrawnLine[] {
  const { width, graphs, intervalMs } = options;
  const cells = Math.floor((width - 2 * (GRAPHS.length - 1)) / GRAPHS.length);
  const slots = capacity(cells, graphs);
  const drawnGraphs = GRAPHS.map(({ title, of, text }) => {
    const values = history.slice(-slots).map(of);
    const known = values.filter((value) => value !== null);
    const max = known.length > 0 ? Math.max(...known) : null;
    const head = `-- ${title}  now ${text(values.at(-1) ?? null)} max ${text(max)} `;
    // Where the terminal has no finer dots, the numbers say it.
    const lines = graph(values, { width: cells, height: HEIGHT, style: graphs });
    const past = `-${formatDuration(slots * intervalMs)}`;
    const foot = `${past}${" ".repeat(Math.max(1, cells - past.length - 3))}now`;
    return [
      span(fitText(head + "-".repeat(Math.max(0, cells - head.length)), cells), "dim"),
      ...lines.map((row) => span(row, "graph")),
      span(fitText(foot, cells), "dim"),
    ];
  });
  return Array.from({ length: HEIGHT + 2 }, (_, row) => {
    const spans: Span[] = drawnGraphs.flatMap((lines, i) => [
      ...(i === 0 ? [] : [span("  ")]),
      lines[row] ?? span(" ".repeat(cells)),
    ]);
    return drawn(spans, width);
  });
}

const MARK_TONES: Readonly<Record<string, Tone>> = {
  "*": "good",
  "~": "changing",
  "-": "intended",
  "!": "broken",
  "?": "stale",
  x: "lost",
};
/** Worst first: what one mark for several workers shows. */
const WORST = "x!?~-* ";
const LEGEND = "  x lost ! fail ~ load - drain * ready";
/** Workers a mark, above so many of them. */
const MANY = 800;
const MANY_A_MARK = 4;

/** The marks in rows, with what they mean where room is left. */
export function stripLines(strip: string, size: { width: number; rows: number }): DrawnLine[] {
  const { width, rows } = size;
  const marks = strip.length > MANY ? grouped(strip, MANY_A_MARK) : strip;
  const lines: Line[] = [];
  for (let at = 0; at < marks.length && lines.length < rows; at += width) {
    lines.push(
      [...marks.slice(at, at + width)].map((mark) => span(mark, MARK_TONES[mark] ?? "plain")),
    );
  }
  const last = lines.at(-1);
  if (last && last.length + LEGEND.length <= width) {
    lines[lines.length - 1] = [...last, ...line(LEGEND, "dim")];
  }
  return lines.map((spans) => drawn(merged(spans), width));
}

function grouped(strip: string, size: number): string {
  let marks = "";
  for (let at = 0; at < strip.length; at += size) {
    const some = [...strip.slice(at, at + size)];
    marks += [...WORST].find((mark) => some.includes(mark)) ?? " ";
  }
  return marks;
}

/** Neighbours in the same tone are one piece. */
function merged(spans: Line): Line {
  const pieces: Span[] = [];
  for (const piece of spans) {
    const last = pieces.at(-1);
    if (last?.tone === piece.tone) last.text += piece.text;
    else pieces.push({ ...piece });
  }
  return pieces;
}
