/** Bars of cells that fill from the left, finer than a cell where the terminal can. */

export type Charset = "utf8" | "ascii";

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"] as const;
const FULL = { utf8: "█", ascii: "#" } as const;
const EMPTY = { utf8: "·", ascii: "." } as const;

/** `share` is 0 to 1; null is drawn like nothing, as the number beside it says which. */
export function bar(share: number | null, width: number, charset: Charset): string {
  if (width <= 0) return "";
  const part = share === null || !Number.isFinite(share) ? 0 : Math.min(1, Math.max(0, share));
  if (charset === "ascii") {
    const filled = Math.round(part * width);
    return FULL.ascii.repeat(filled) + EMPTY.ascii.repeat(width - filled);
  }
  const eighths = Math.round(part * width * 8);
  const whole = Math.floor(eighths / 8);
  const rest = EIGHTHS[eighths % 8] ?? "";
  return FULL.utf8.repeat(whole) + rest + EMPTY.utf8.repeat(width - whole - (rest ? 1 : 0));
}
