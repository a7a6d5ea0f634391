/** Keeps `llmnode status` on one screen: of many, those that need a person. */

import { count } from "../../util/text.ts";

/** Rows of one kind. */
const ROOM = 20;

interface WorkerState {
  state: string;
  engines: readonly { state: string; replicas: readonly { state: string }[] }[];
}

interface ModelState {
  ready: number | null;
  replicas: number | null;
}

/** What is shown, in the order of all, and a line for what is not. */
export function briefly<W extends WorkerState, M extends ModelState, S>(
  status: S & { workers: W[]; models: M[] },
): { shown: S & { workers: W[]; models: M[] }; more: string[] } {
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

function isWorkerWell({ state, engines }: WorkerState): boolean {
  return (
    state === "ready" &&
    engines.every((engine) => {
      return engine.state === "ready" && engine.replicas.every((one) => one.state === "ready");
    })
  );
}

function isModelWell({ ready, replicas }: ModelState): boolean {
  return ready !== null && ready > 0 && ready === replicas;
}
