/** Which columns of a table fit, and how wide each is. */

export interface ColumnWidths {
  /** Narrower than this it is left out. */
  min: number;
  /** What it gets when there is room. */
  ideal: number;
  /** Its share of the room that is left over; 0: none. */
  grow: number;
  /** The column with the highest number goes first; 0 never goes. */
  priority: number;
}

/**
 * The width of each column in `width` cells with one cell between two, null for those left out.
 * Columns are dropped by priority until the least widths fit; then all get their ideal, those of
 * least priority first, and what is left goes to those that grow.
 */
export function fitColumns(columns: readonly ColumnWidths[], width: number): (number | null)[] {
  const kept = new Set(columns.keys());
  const needed = () =>
    [...kept].reduce((sum, i) => sum + (columns[i]?.min ?? 0), 0) + Math.max(0, kept.size - 1);
  for (;;) {
    if (needed() <= width) break;
    const goes = [...kept]
      .filter((i) => (columns[i]?.priority ?? 0) > 0)
      .sort((a, b) => (columns[b]?.priority ?? 0) - (columns[a]?.priority ?? 0) || b - a)[0];
    if (goes === undefined) break;
    kept.delete(goes);
  }
  const widths = columns.map(({ min }, i) => (kept.has(i) ? min : null));
  let room = width - needed();
  const give = (i: number, cells: number) => {
    const taken = Math.max(0, Math.min(cells, room));
    widths[i] = (widths[i] ?? 0) + taken;
    room -= taken;
  };
  const byPriority = [...kept].sort(
    (a, b) => (columns[a]?.priority ?? 0) - (columns[b]?.priority ?? 0) || a - b,
  );
  for (const i of byPriority) give(i, (columns[i]?.ideal ?? 0) - (columns[i]?.min ?? 0));
  const growing = [...kept].filter((i) => (columns[i]?.grow ?? 0) > 0);
  const shares = growing.reduce((sum, i) => sum + (columns[i]?.grow ?? 0), 0);
  const left = room;
  for (const i of growing) give(i, Math.floor((left * (columns[i]?.grow ?? 0)) / shares));
  const [first] = growing;
  if (first !== undefined) give(first, room);
  return widths;
}

/** Exactly `width` cells: cut at the end, filled with spaces on the other side of `align`. */
export function fitText(text: string, width: number, align: "left" | "right" = "left"): string {
  const cut = cutEnd(text, width);
  const gap = " ".repeat(Math.max(0, width - Bun.stringWidth(cut)));
  return align === "left" ? cut + gap : gap + cut;
}

/** At most `width` cells; what was cut is marked by `…`. */
export function cutEnd(text: string, width: number, mark = "…"): string {
  if (Bun.stringWidth(text) <= width) return text;
  return width <= 0 ? "" : takeCells(text, width - Bun.stringWidth(mark)) + mark.slice(0, width);
}

/** The same, cut in the middle: names of models differ at both ends. */
export function cutMiddle(text: string, width: number, mark = "…"): string {
  if (Bun.stringWidth(text) <= width) return text;
  if (width <= 3) return cutEnd(text, width, mark);
  const room = width - Bun.stringWidth(mark);
  const head = takeCells(text, Math.ceil(room / 2));
  const tail = takeCellsFromEnd(text, room - Bun.stringWidth(head));
  return head + mark + tail;
}

function takeCells(text: string, width: number): string {
  let taken = "";
  let used = 0;
  for (const char of text) {
    used += Bun.stringWidth(char);
    if (used > width) break;
    taken += char;
  }
  return taken;
}

function takeCellsFromEnd(text: string, width: number): string {
  const chars = [...text];
  let used = 0;
  let from = chars.length;
  while (from > 0) {
    used += Bun.stringWidth(chars[from - 1] ?? "");
    if (used > width) break;
    from -= 1;
  }
  return chars.slice(from).join("");
}
