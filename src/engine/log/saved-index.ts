/** How a log's index stands in its file. */

import { isRecord } from "../../util/json.ts";
import { readJsonFile } from "../../util/json-file.ts";

export interface SavedIndex {
  schema: 1;
  id: string;
  base: number;
  floor: number;
  end: number;
  end_line: number;
  saved_at: number;
  /** As `position, line, from, to`. */
  points: number[][];
  gaps: readonly { position: number; bytes: number }[];
  runs: { id: string; position: number; started_at: number }[];
}

/** Null if there is none that this version understands: then the log is counted again. */
export function readSaved(file: string): SavedIndex | null {
  const value = readJsonFile(file);
  return isSaved(value) ? value : null;
}

function isSaved(value: unknown): value is SavedIndex {
  if (!isRecord(value)) return false;
  const { schema, id, base, floor, end, end_line, saved_at, points, gaps, runs } = value as Partial<
    Record<keyof SavedIndex, unknown>
  >;
  return (
    schema === 1 &&
    typeof id === "string" &&
    /^[\w-]{1,64}$/.test(id) &&
    [base, floor, end, end_line, saved_at].every(isCount) &&
    Array.isArray(points) &&
    points.every(
      (point: unknown) => Array.isArray(point) && point.length === 4 && point.every(isCount),
    ) &&
    areAt(gaps, "bytes") &&
    areAt(runs, "started_at") &&
    runs.every(({ id: run }) => typeof run === "string")
  );
}

function areAt(value: unknown, figure: string): value is Record<string, unknown>[] {
  return (
    Array.isArray(value) &&
    value.every((entry: unknown) => {
      if (!isRecord(entry)) return false;
      const { position, [figure]: other } = entry;
      return isCount(position) && isCount(other);
    })
  );
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
