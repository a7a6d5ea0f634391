/** Keeps `llmnode status` on one screen: of many, those that need a person. */

import type { ModelRow, WorkerDetail } from "../../protocol/watch-rows.ts";
import { count } from "../../util/text.ts";

/** Rows of one kind. */
const ROOM = 20;

interface Rows {
  workers: readonly WorkerDetail[];
  models: readonly ModelRow[];
}

/** What is shown, in the order of all, and a line for what is not. */
export function briefly(all: Rows): { shown: Rows; more: string[] } {
  const workers = some(all.workers, isWorkerWell);
  const models = some(all.models, isModelWell);
  return {
    shown: { workers: workers.shown, models: models.shown },
    more: [moreText(models, "model"), moreText(workers, "worker")].flatMap((line) => line ?? []),
  };
}

interface Some<R> {
  shown: R[];
  left: number;
  isRestWell: boolean;
}

function some<R>(rows: readonly R[], isWell: (row: R) => boolean): Some<R> {
  const unwell = rows.filter((row) => !isWell(row));
  const well = rows.filter(isWell);
  const chosen = new Set([...unwell, ...well].slice(0, ROOM));
  const shown = rows.filter((row) => chosen.has(row));
  return { shown, left: rows.length - shown.length, isRestWell: unwell.length <= ROOM };
}

function moreText({ left, isRestWell }: Some<unknown>, noun: string): string | null {
  if (left === 0) return null;
  return `and ${count(left, `more ${noun}`)}${isRestWell ? ", ready" : ""}: llmnode ${noun}s`;
}

function isWorkerWell({ state, engines }: WorkerDetail): boolean {
  return (
    state === "ready" &&
    engines.every((engine) => engine.replicas.every((replica) => replica.state === "ready"))
  );
}

function isModelWell({ ready, replicas }: ModelRow): boolean {
  return ready > 0 && ready === replicas;
}
