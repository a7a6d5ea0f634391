/** Numbers as the page shows them; the script of the page has the same. */

import { formatDuration } from "../../util/units.ts";

export const UNKNOWN = "-";

export function number(value: number | null, digits = 0): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  if (Math.abs(value) >= 9999.5) return `${(value / 1000).toFixed(1)}k`;
  return value.toFixed(digits);
}

export function milliseconds(value: number | null): string {
  if (value === null) return UNKNOWN;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;
}

export function percent(value: number | null): string {
  return value === null ? UNKNOWN : `${Math.round(value)}%`;
}

export function share(part: number | null, whole: number | null): number | null {
  return part === null || whole === null || whole <= 0 ? null : (100 * part) / whole;
}

export function age(ms: number): string {
  return formatDuration(ms).replace(/\.\ds$/, "s");
}
