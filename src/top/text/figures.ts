/** Numbers in a few cells: the same width for the same kind, `-` for what is not known. */

export const UNKNOWN = "-";

/** A count in at most 4 cells: `0`, `999`, `1.2k`, `17k`, `291k`, `2.4M`; `-` while unknown. */
export function countText(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  const n = Math.max(0, value);
  if (n < 999.5) return String(Math.round(n));
  return scaled(n, 1);
}

/** Tokens of a model's context, which come in powers of two: `32k` is 32,768. */
export function contextText(tokens: number | null): string {
  if (tokens === null) return UNKNOWN;
  return tokens < 1024 ? String(tokens) : `${Math.round(tokens / 1024)}k`;
}

/** A rate in at most 5 cells: `0.0`, `23.4`, `0.9k`, `17.8k`, `291k`. */
export function rateText(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  const n = Math.max(0, value);
  if (n < 99.95) return n.toFixed(1);
  if (n < 999.5 && n >= 99.95) return String(Math.round(n));
  return scaled(n, 2);
}

/** Tokens per second as tables show them, in thousands from 100 on: `-`, `42`, `0.9k`, `17.8k`. */
export function tokenRateText(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  const n = Math.max(0, value);
  if (n === 0) return "0";
  if (n < 99.5) return n < 9.95 ? n.toFixed(1) : String(Math.round(n));
  return scaled(Math.max(n, 100), 2);
}

/** A time in at most 5 cells: `88ms`, `1.21s`, `48.2s`, `4m20`, `3h04`, `3d04`. */
export function timeText(ms: number | null): string {
  if (ms === null || !Number.isFinite(ms)) return UNKNOWN;
  const n = Math.max(0, ms);
  if (n < 999.5) return `${Math.round(n)}ms`;
  if (n < 9995) return `${(n / 1000).toFixed(2)}s`;
  if (n < 59_950) return `${(n / 1000).toFixed(1)}s`;
  const minutes = Math.round(n / 1000) / 60;
  if (minutes < 60) return pair(Math.floor(minutes), "m", Math.round(n / 1000) % 60);
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return pair(hours, "h", Math.floor(minutes) % 60);
  const days = Math.floor(hours / 24);
  return days < 100 ? pair(days, "d", hours % 24) : `${days}d`;
}

/** A share in percent in at most 4 cells: `0%`, `94%`, `100%`. */
export function percentText(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return `${UNKNOWN}%`;
  return `${Math.round(Math.min(999, Math.max(0, value)))}%`;
}

const GIB = 1024 ** 3;

/** Memory taken and there is, in GiB: `80/141G`; `-/141G` where only one is known. */
export function memoryText(used: number | null, total: number | null): string {
  const part = (bytes: number | null) => (bytes === null ? UNKNOWN : gib(bytes));
  return used === null && total === null ? UNKNOWN : `${part(used)}/${part(total)}G`;
}

function gib(bytes: number): string {
  const n = bytes / GIB;
  return n < 9.95 && n > 0 ? n.toFixed(1) : String(Math.round(n));
}

function pair(large: number, unit: string, small: number): string {
  return `${large}${unit}${String(small).padStart(2, "0")}`;
}

/** With one digit behind the point while fewer than so many digits stand before it. */
function scaled(n: number, digits: number): string {
  let value = n / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const short = value < (digits === 1 ? 9.95 : 99.95);
  return `${short ? value.toFixed(1) : Math.round(value)}${UNITS[unit]}`;
}

const UNITS = ["k", "M", "G", "T"] as const;
