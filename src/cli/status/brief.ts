/** Keeps `llmnode status` on one screen: of many, those that need a person. */

import { count } from "../../util/text.ts";
import type { ModelView, StatusView, WorkerView } from "./view.ts";

/** Rows of one kind. */
const ROOM = 20;

/** What is shown, in the order of all, and a line for what is not. */
export function briefly(status: StatusView): { shown: StatusView; more: string[] } {
  const workers = some(status.workers, isWorkerWell);
  const models = some(status.models, isModelWell);
  return {
    shown: { ...status, workers: workers.shown, models: models.shown },
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

function isWorkerWell({ state, engines }: WorkerView): boolean {
  const isEngineWell = (engine: WorkerView["engines"][number]) =>
    engine.state === "ready" && engine.replicas.every((replica) => replica.state === "ready");
  return state === "ready" && engines.every(isEngineWell);
}

function isModelWell({ ready, replicas }: ModelView): boolean {
  return ready !== null && ready > 0 && ready === replicas;
}
