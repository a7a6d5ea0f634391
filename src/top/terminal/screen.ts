/** Frames as cells, and the least bytes that turn one frame on a terminal into the next. */

/** One cell: its text (empty behind a wide character) and its attributes as SGR parameters. */
export interface Cell {
  text: string;
  style: string;
}

/** `rows` lines of `columns` cells each. */
export interface Screen {
  columns: number;
  rows: number;
  lines: readonly (readonly Cell[])[];
}

const ESC = "\u001b";
/** Synchronized output, so that a terminal never shows half a frame; unknown to some, harmless. */
const BEGIN = `${ESC}[?2026h`;
const END = `${ESC}[?2026l`;
const BLANK: Cell = { text: " ", style: "" };

/** What `style` may be made of, in this order. */
const PLAIN = {
  bold: false,
  dim: false,
  underline: false,
  reverse: false,
  foreground: null as number | null,
  background: null as number | null,
};
type Attributes = typeof PLAIN;

/**
 * The screen with some of its lines replaced; none or of another size: the others are blank. Lines have
 * SGR sequences, as Ink renders them. Other escape sequences and control characters are left out;
 * what is outside of the screen is cut, what is missing is blank.
 */
export function patchScreen(
  screen: Screen | null,
  changes: readonly { row: number; text: string }[],
  size: { columns: number; rows: number },
): Screen {
  const { columns, rows } = size;
  const isSame = screen !== null && screen.columns === columns && screen.rows === rows;
  const lines = isSame
    ? [...screen.lines]
    : Array.from({ length: rows }, () => Array.from({ length: columns }, () => BLANK));
  for (const { row, text } of changes) {
    if (row < rows) lines[row] = parseLine(text, columns);
  }
  return { columns, rows, lines };
}

function parseLine(line: string, columns: number): Cell[] {
  const attributes = { ...PLAIN };
  const cells: Cell[] = [];
  let style = styleOf(attributes);
  let last: Cell | null = null;
  for (let at = 0; at < line.length;) {
    const code = line.charCodeAt(at);
    if (code === 0x1b) {
      const sequence = ESCAPE.exec(line.slice(at, at + MAX_ESCAPE));
      at += sequence?.[0].length ?? 1;
      if (sequence?.[1] === undefined) continue;
      apply(attributes, sequence[1]);
      style = styleOf(attributes);
    } else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) {
      at += 1;
    } else {
      const char = code < 0x7f ? (line[at] ?? "") : String.fromCodePoint(line.codePointAt(at) ?? 0);
      at += char.length;
      const width = code < 0x7f ? 1 : Bun.stringWidth(char);
      if (width === 0) {
        if (last) last.text += char;
        continue;
      }
      if (cells.length + width > columns) continue;
      last = { text: char, style };
      cells.push(last);
      for (let i = 1; i < width; i += 1) cells.push({ text: "", style });
    }
  }
  while (cells.length < columns) cells.push(BLANK);
  return cells;
}

const MAX_ESCAPE = 64;
// SGR with its parameters, or any other CSI, or any two characters.
// oxlint-disable-next-line no-control-regex
const ESCAPE = /^\u001b(?:\[([\d;]*)m|\[[0-?]*[ -/]*[@-~]|[^[])/;

/** Source: ECMA-48, 8.3.117; the 16 colours only, other ones are the default. */
function apply(attributes: Attributes, parameters: string): void {
  const codes = parameters.split(";").map(Number);
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i] ?? 0;
    if (code === 0) Object.assign(attributes, PLAIN);
    else if (code === 1) attributes.bold = true;
    else if (code === 2) attributes.dim = true;
    else if (code === 4) attributes.underline = true;
    else if (code === 7) attributes.reverse = true;
    else if (code === 22) attributes.bold = attributes.dim = false;
    else if (code === 24) attributes.underline = false;
    else if (code === 27) attributes.reverse = false;
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) attributes.foreground = code;
    else if (code === 39) attributes.foreground = null;
    else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107))
      attributes.background = code;
    else if (code === 49) attributes.background = null;
    // Of 256 colours or of millions: their numbers are no codes.
    else if (code === 38 || code === 48) i += codes[i + 1] === 5 ? 2 : 4;
  }
}

function styleOf(attributes: Attributes): string {
  const { bold, dim, underline, reverse, foreground, background } = attributes;
  const codes = [
    bold ? 1 : null,
    dim ? 2 : null,
    underline ? 4 : null,
    reverse ? 7 : null,
    foreground,
    background,
  ];
  return codes.filter((code) => code !== null).join(";");
}

/** Cells that are the same between two changed ones are cheaper to write than to jump over. */
const BRIDGE = 4;

/**
 * What turns `before` into `after` on the terminal; empty when they are the same. `null` or another
 * size draws it all, with the only clearing of the screen that there is.
 */
export function drawChanges(before: Screen | null, after: Screen): string {
  const isAll = before === null || before.columns !== after.columns || before.rows !== after.rows;
  let out = "";
  let style = "";
  for (const [row, line] of after.lines.entries()) {
    const old = isAll ? null : (before.lines[row] ?? null);
    if (old === line) continue;
    for (const { start, end } of changes(old, line)) {
      out += `${ESC}[${row + 1};${start + 1}H`;
      for (const cell of line.slice(start, end)) {
        if (cell.style !== style) {
          out += `${ESC}[0${cell.style ? `;${cell.style}` : ""}m`;
          style = cell.style;
        }
        out += cell.text;
      }
    }
  }
  if (style !== "") out += `${ESC}[0m`;
  if (isAll) return `${BEGIN}${ESC}[0m${ESC}[2J${out}${END}`;
  return out === "" ? "" : BEGIN + out + END;
}

/** The runs of cells that must be written. */
function changes(
  old: readonly Cell[] | null,
  line: readonly Cell[],
): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = [];
  for (let at = 0; at < line.length; at += 1) {
    const cell = line[at] ?? BLANK;
    const was = old === null ? BLANK : (old[at] ?? BLANK);
    if (was.text === cell.text && was.style === cell.style) continue;
    let start = at;
    // Neither half of a wide character can be written alone, of the old one as of the new one.
    while (start > 0 && (line[start]?.text === "" || old?.[start]?.text === "")) start -= 1;
    let end = at + 1;
    while (end < line.length && (line[end]?.text === "" || old?.[end]?.text === "")) end += 1;
    const last = runs.at(-1);
    if (last && start - last.end <= BRIDGE) last.end = Math.max(last.end, end);
    else runs.push({ start, end });
    at = end - 1;
  }
  return runs;
}
