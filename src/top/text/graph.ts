/** Small graphs of a series: the newest value on the right, filled from below. */

/** Braille has 2 x 4 dots a cell, blocks 1 x 8 steps, ASCII 1 x 2. */
export type GraphStyle = "braille" | "block" | "ascii";

export interface GraphSize {
  width: number;
  height: number;
  style: GraphStyle;
  /** The value at the top; default: the largest one shown. */
  max?: number;
}

/** How many values fit in so many cells. */
export function capacity(width: number, style: GraphStyle): number {
  return style === "braille" ? 2 * width : width;
}

// Dots of a cell from the bottom up, left and right column. Source: Unicode chapter 21.1.
const LEFT = [0x40, 0x04, 0x02, 0x01] as const;
const RIGHT = [0x80, 0x20, 0x10, 0x08] as const;
const BLOCKS = " ▁▂▃▄▅▆▇█";
const ASCII = " .#";

/** Lines from the top; each is exactly `width` cells. Null values are gaps. */
export function graph(values: readonly (number | null)[], size: GraphSize): string[] {
  const { width, height, style } = size;
  if (width <= 0 || height <= 0) return [];
  const slots = capacity(width, style);
  const shown = values.slice(-slots);
  const max = size.max ?? Math.max(0, ...shown.map((value) => value ?? 0));
  const perCell = style === "braille" ? 4 : style === "block" ? 8 : 2;
  const steps = height * perCell;
  const levels = shown.map((value) => levelOf(value, max, steps));
  const filled = [...Array.from({ length: slots - levels.length }, () => 0), ...levels];
  const lines: string[] = [];
  for (let row = height - 1; row >= 0; row -= 1) {
    let line = "";
    for (let x = 0; x < width; x += 1) {
      const level = (slot: number) =>
        Math.min(perCell, Math.max(0, (filled[slot] ?? 0) - row * perCell));
      if (style === "braille") line += brailleCell(level(2 * x), level(2 * x + 1));
      else line += (style === "block" ? BLOCKS : ASCII)[level(x)] ?? " ";
    }
    lines.push(line);
  }
  return lines;
}

/** Steps from below; what is more than nothing is seen. */
function levelOf(value: number | null, max: number, steps: number): number {
  if (value === null || !Number.isFinite(value) || value <= 0 || max <= 0) return 0;
  return Math.max(1, Math.min(steps, Math.round((value / max) * steps)));
}

function brailleCell(left: number, right: number): string {
  let dots = 0;
  for (let i = 0; i < left; i += 1) dots |= LEFT[i] ?? 0;
  for (let i = 0; i < right; i += 1) dots |= RIGHT[i] ?? 0;
  return String.fromCharCode(0x2800 + dots);
}
