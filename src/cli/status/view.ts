/** The screen of `llmnode status`, and the judgement of `status --check`, from the rows of the head. */

import type { StatusJson } from "../../protocol/watch-json.ts";
import type { EngineRow, ReplicaRow, WorkerDetail } from "../../protocol/watch-rows.ts";
import { cleanLine, count } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { cut, table } from "../base/table.ts";
import { clockTime } from "../drain/view.ts";
import { briefly } from "./brief.ts";
import { failureLines, processTable, stateWord } from "./engines.ts";
import { gpuText, hardwareTables } from "./hardware.ts";

export function statusLines(
  status: StatusJson,
  { url, columns, verbose = false }: { url: string; columns: number | null; verbose?: boolean },
): string[] {
  const models = ownModels(status);
  const ready = models.filter((model) => model.ready > 0).length;
  const summary = `${count(status.workers.length, "worker")}, ${ready} of ${count(models.length, "model")} ready`;
  const head = `head ${url}   llmnode ${status.head.version}   ${summary}`;
  const lines = [cut(cleanLine(head), columns)];
  const all = { workers: status.workers, models };
  const { shown, more } = verbose ? { shown: all, more: [] } : briefly(all);
  const add = (header: readonly string[], rows: string[][]) => {
    if (rows.length > 0) lines.push("", ...table(header, rows, { columns }));
  };
  for (const [title, offers] of [
    ["MODEL", shown.models],
    ["SERVICE", status.services],
  ] as const) {
    add(
      [title, "READY", "INFL"],
      offers.map((row) => [row.name, `${row.ready}/${row.replicas}`, String(row.in_flight)]),
    );
  }
  add(
    ["WORKER", "STATE", "ROUTE", "SEEN", "GPU", "REASON"],
    shown.workers.map((worker) => [
      worker.name,
      worker.state,
      worker.route ?? "-",
      `${formatDuration(worker.seen_ms)} ago`,
      gpuText(worker),
      reasonOf(worker) ?? "",
    ]),
  );
  const engines = shown.workers.flatMap((worker) => worker.engines);
  add(
    ["ENGINE", "KIND", "STATE", "MODEL", "REPLICA", "INFL", "LOAD", "REASON"],
    engines.flatMap(engineCells),
  );
  if (more.length > 0) lines.push("", ...more);
  if (verbose) for (const [header, rows] of hardwareTables(status.workers)) add(header, rows);
  if (verbose) add(...processTable(engines));
  return [...lines, ...failureLines(engines, verbose)];
}

/** What is wrong, in words; empty when every model and every worker is as it should be. */
export function problems(status: StatusJson): string[] {
  const found: string[] = [];
  const models = ownModels(status);
  const offers = [...models, ...status.services];
  if (!offers.some(({ ready }) => ready > 0)) found.push("no model is ready");
  for (const model of models) {
    if (model.ready === 0) found.push(`model ${model.name} has no ready replica`);
  }
  for (const service of status.services) {
    if (service.ready === 0) found.push(`service ${service.name} has no ready replica`);
  }
  for (const worker of status.workers) {
    if (["stale", "lost"].includes(worker.state)) {
      found.push(`worker ${worker.name} is ${worker.state}${because(worker.reason)}`);
    }
    for (const engine of worker.engines) found.push(...engineProblems(engine));
  }
  return found.map((line) => cleanLine(line, 300));
}

/** An alias is ready as its model is. */
function ownModels({ models }: StatusJson): StatusJson["models"] {
  return models.filter(({ alias_of }) => alias_of === null);
}

function engineProblems(engine: EngineRow): string[] {
  const state = stateWord(engine);
  if (["suspect", "unhealthy", "backoff", "failed"].includes(state)) {
    return [`engine ${engine.name} is ${state}${because(engine.reason)}`];
  }
  return engine.replicas
    .filter((replica) => ["unreachable", "overloaded", "excluded"].includes(replica.state))
    .map(
      (replica) => `${replica.name} on ${engine.name} is ${replica.state}${because(engine.reason)}`,
    );
}

function because(reason: string | null): string {
  return reason === null ? "" : ` (${reason})`;
}

/** What an operator ordered, or what is wrong and its engines do not say themselves. */
function reasonOf(worker: WorkerDetail): string | null {
  const { reason } = worker;
  const isShown = worker.engines.some((engine) => engine.reason === reason);
  return orderReason(worker) ?? (isShown ? null : reason);
}

/** Null where no operator ordered it, or something else says more about the worker now. */
function orderReason({ drain, state }: WorkerDetail): string | null {
  if (drain === null || ["stale", "lost", "left"].includes(state)) return null;
  const parts = [
    `${drain.purpose} by ${drain.who}`,
    `since ${clockTime(drain.since)}`,
    ...(state === "draining" && drain.deadline !== null
      ? [`deadline ${clockTime(drain.deadline)}`]
      : []),
    ...(drain.stage === "queued" ? ["waits for its turn"] : []),
    ...(drain.stage === "restarting" ? ["its engine starts again"] : []),
    ...(drain.message === null ? [] : [drain.message]),
  ];
  return cleanLine(parts.join(", "), 300);
}

/** One row a replica; an engine that serves nothing yet still has its row. */
function engineCells(engine: EngineRow): string[][] {
  const own = [engine.name, engine.kind, stateText(engine)];
  const reason = engine.reason ?? "";
  if (engine.replicas.length === 0) return [[...own, "-", "-", "-", "", reason]];
  return engine.replicas.map(({ name, state, in_flight }: ReplicaRow) => [
    ...own,
    name,
    state,
    String(in_flight),
    loadText(engine),
    reason,
  ]);
}

/** "starting (load 40%, 2m10s)": how far it is, and for how long it has been there. */
function stateText(engine: EngineRow): string {
  const { phase, phase_ms } = engine;
  const state = stateWord(engine);
  if (phase === null) return state;
  return `${state} (${phase_ms === null ? phase : `${phase}, ${formatDuration(phase_ms)}`})`;
}

/** "12 run, 3 wait, cache 40%", without what is not known. */
function loadText({ running, queue, kv_pct }: EngineRow): string {
  return [
    running === null ? [] : `${running} run`,
    queue === null ? [] : `${queue} wait`,
    kv_pct === null ? [] : `cache ${Math.round(kv_pct)}%`,
  ]
    .flat()
    .join(", ");
}
