/** What a drill prints. */

import { table } from "../bench/table.ts";
import type { Result } from "./run.ts";

export function resultTable(results: readonly Result[]): string {
  const header = [
    ...["drill", "requests", "answers", "resumed", "errors", "hung"],
    ...["recovery s", "silence s", "deaths", "", "note"],
  ];
  const rows = results.map(({ row, failures }) => [
    ...[row.drill, row.requests, row.answers, row.resumed, row.errors, row.hung],
    row.recoveryMs === null ? null : row.recoveryMs / 1000,
    row.silenceMs / 1000,
    row.deaths,
    failures.length === 0 ? "ok" : "FAIL",
    row.note,
  ]);
  return table(header, rows);
}

/** All rounds of each drill in one line. */
export function summaryTable(results: readonly Result[]): string {
  const header = [
    ...["drill", "rounds", "failed", "requests", "answers", "resumed", "errors", "hung"],
    ...["recovery s, worst", "silence s, worst", "deaths"],
  ];
  const names = [...new Set(results.map(({ row }) => row.drill))];
  const rows = names.map((name) => {
    const all = results.filter(({ row }) => row.drill === name);
    const sum = (read: (row: Result["row"]) => number) =>
      all.reduce((total, { row }) => total + read(row), 0);
    const worst = (read: (row: Result["row"]) => number) =>
      Math.max(...all.map(({ row }) => read(row))) / 1000;
    return [
      ...[name, all.length, all.filter(({ failures }) => failures.length > 0).length],
      ...[sum((row) => row.requests), sum((row) => row.answers), sum((row) => row.resumed)],
      ...[sum((row) => row.errors), sum((row) => row.hung)],
      ...[worst((row) => row.recoveryMs ?? 0), worst((row) => row.silenceMs)],
      sum((row) => row.deaths),
    ];
  });
  return table(header, rows);
}

/** Why drills failed, a line each; "" when none did. */
export function complaints(results: readonly Result[]): string {
  return results
    .flatMap(({ row, failures }) => [
      ...failures.map((failure) => `${row.drill}: ${failure}`),
      ...(failures.length === 0 ? [] : row.why.map((why) => `${row.drill}:   ${why}`)),
    ])
    .join("\n");
}

export function asJson(results: readonly Result[]): object[] {
  return results.map(({ row, failures }) => ({
    drill: row.drill,
    requests: row.requests,
    answers: row.answers,
    resumed: row.resumed,
    errors: row.errors,
    hung: row.hung,
    recovery_ms: row.recoveryMs,
    longest_silence_ms: row.silenceMs,
    engine_deaths: row.deaths,
    note: row.note,
    reasons: row.why,
    failures,
  }));
}
