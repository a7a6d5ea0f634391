/** The page with all keys, the page of an empty cluster, and the boxes that ask something. */

import { cutEnd, fitText } from "../text/columns.ts";
import { joinAddress, joinCommand, SESSION_PORT } from "../state/pointing.ts";
import { SORTABLE } from "../state/sorts.ts";
import { type Confirm, freshness, mayAct, type TopState } from "../state/state.ts";
import { formatDuration } from "../../util/units.ts";
import { clean, type Line, line, span } from "../text/styled.ts";
import { type DrawnLine, drawn, type DrawOptions, drawnText } from "./drawn.ts";

const HELP = `
 MOVE                        LOOK                       ACT (all ask first)
 j k  Up Down    row         1 2 3 4   view             D   drain worker
 PgUp PgDn       page        Enter     detail           U   undo drain
 g Home / G End  first/last  Esc       back, clear      R   restart engine
 Tab S-Tab       view        l         logs             K   cancel request
 Space           mark row    e         engines          X   forget lost worker
 *               unmark      s         sort by...
                             < > r     column, reverse  APP
 FILTER  /                   b         group by...      z   freeze screen
 text            any column  a         show gone        + - refresh rate
 !text           not         w         wide columns     Ctrl-R reconnect
 field:text      one column  y         copy name        ?   help
 gpu>80 infl=0   compare     (logs)    f w t p 0-6 Tab  q   quit (Ctrl-C too)
 a b   a|b       and, or               / n N  search

 MARKS   * ready   ~ starting   - drain   ! failed   x lost   ? stale
 BARS    MEM, KV: 70% yellow, 90% red. GPU load: one colour. Number always shown

 sort "problems": lost, failed, stale, starting, drain, ready; then by name`;

export function helpLines(state: TopState, width: number): DrawnLine[] {
  const version = state.hello ? `llmnode ${state.hello.head.version}` : "llmnode";
  const may = mayAct(state);
  const acting = may.may
    ? []
    : [drawnText(` keys that change something do nothing: ${may.why}`, width, "changing")];
  const close = "? or Esc close";
  const title = `${version} top: keys`;
  return [
    drawnText(fitText(title, Math.max(0, width - close.length)) + close, width, "strong"),
    ...HELP.split("\n")
      .slice(1)
      .map((text) => drawnText(text, width)),
    ...acting,
  ];
}

export function emptyLines(state: TopState, width: number): DrawnLine[] {
  const head = state.hello?.head ?? { api_url: state.options.head, session_port: SESSION_PORT };
  const own = joinAddress({ ...head, api_url: "http://127.0.0.1" });
  return `

   No workers have joined yet.

   On a GPU machine run:

     LLMNODE_TOKEN=... ${joinCommand(head)}

   The token is what this prints here:  llmnode join-token show

   No GPU at hand? Try the simulated engine:

     llmnode join ${own} -- llmnode sim --model demo

   Clients: OPENAI_BASE_URL=${head.api_url.replace(/\/$/, "")}/v1`
    .split("\n")
    .map((text) => drawnText(text, width));
}

const BORDERS = {
  utf8: { h: "─", v: "│", tl: "┌", tr: "┐", bl: "└", br: "┘" },
  ascii: { h: "-", v: "|", tl: "+", tr: "+", bl: "+", br: "+" },
} as const;

/** A box of text with a title, `width` cells wide. */
function box(
  title: string,
  lines: readonly Line[],
  how: { width: number; options: DrawOptions },
): Line[] {
  const { h, v, tl, tr, bl, br } = BORDERS[how.options.charset];
  const inner = how.width - 4;
  const head = ` ${cutEnd(title, inner - 4)} `;
  const top = `${tl}${h}${head}${h.repeat(Math.max(0, how.width - 3 - Bun.stringWidth(head)))}${tr}`;
  return [
    line(top, "strong"),
    ...lines.map((one) => [
      span(`${v} `, "strong"),
      ...drawn(one, inner).spans,
      span(` ${v}`, "strong"),
    ]),
    line(`${bl}${h.repeat(how.width - 2)}${br}`, "strong"),
  ];
}

export function dialogBox(state: TopState, options: DrawOptions, width: number): Line[] {
  const { dialog } = state;
  const wide = Math.max(20, Math.min(62, width - 4));
  if (dialog?.kind === "sort") {
    const rows = SORTABLE[state.view].map(({ words }, i) =>
      line(`${i === dialog.cursor ? ">" : " "} ${words}`, i === dialog.cursor ? "chosen" : "plain"),
    );
    return box("Sort by", rows, { width: Math.min(30, wide), options });
  }
  if (dialog?.kind !== "confirm") return [];
  const shown = [...confirmLines(dialog)];
  if (freshness(state) === "slow") {
    const age = formatDuration(state.now - state.frameAt);
    shown.unshift(line(`! The data are ${age} old.`, "changing"));
  }
  return box(clean(dialog.title), shown, { width: wide, options });
}

function confirmLines({ lines, needed, typed, focus }: Confirm): Line[] {
  const shown = lines.map((text) =>
    line(clean(text, 300), text.startsWith("!") ? "broken" : "plain"),
  );
  if (needed === null) {
    const isGo = focus === "go";
    return [
      ...shown,
      line(""),
      [
        span("[ Cancel (Esc) ]", isGo ? "plain" : "chosen"),
        span("      "),
        span("[ Do it (y) ]", isGo ? "chosen" : "plain"),
      ],
    ];
  }
  const isWhole = typed === needed;
  return [
    ...shown,
    line(""),
    [span(`Type ${clean(needed, 100)} to confirm: `), span(`${clean(typed, 100)}_`, "strong")],
    line(""),
    [
      span("[ Cancel (Esc) ]", "chosen"),
      span(isWhole ? "      Enter  do it" : "      ( not complete )", isWhole ? "strong" : "dim"),
    ],
  ];
}

/** The box in the middle of what is drawn already. */
export function withBox(
  lines: readonly DrawnLine[],
  boxed: readonly Line[],
  width: number,
): DrawnLine[] {
  const boxWidth = Math.max(
    0,
    ...boxed.map((one) => one.reduce((sum, { text }) => sum + Bun.stringWidth(text), 0)),
  );
  const top = Math.max(0, Math.floor((lines.length - boxed.length) / 2));
  const left = Math.max(0, Math.floor((width - boxWidth) / 2));
  return lines.map((under, row) => {
    const over = boxed[row - top];
    if (row < top || over === undefined) return under;
    const whole = drawn(under.spans, width).spans;
    return {
      spans: [...cutSpans(whole, 0, left), ...over, ...cutSpans(whole, left + boxWidth, width)],
    };
  });
}

/** The cells from `from` up to `to`; half of a wide character is a blank. */
function cutSpans(spans: Line, from: number, to: number): Line {
  const pieces: { text: string; tone: Line[number]["tone"] }[] = [];
  let at = 0;
  for (const { text, tone } of spans) {
    let kept = "";
    for (const char of text) {
      const cells = Bun.stringWidth(char);
      if (at >= from && at + cells <= to) kept += char;
      else if (at < to && at + cells > from)
        kept += " ".repeat(Math.min(at + cells, to) - Math.max(at, from));
      at += cells;
    }
    if (kept !== "") pieces.push({ text: kept, tone });
  }
  return pieces;
}

/** Before the first data: an empty table would look like an empty cluster. */
export function waitingLines(state: TopState, width: number): DrawnLine[] {
  const { connection } = state;
  const what =
    connection.state === "down"
      ? `no answer from ${state.options.head}: ${clean(connection.reason, 300)}`
      : `connecting to ${state.options.head}`;
  return [drawnText("", width), drawnText(`   ${what}`, width)];
}
