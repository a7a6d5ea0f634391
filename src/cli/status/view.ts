/** The screen of `llmnode status`, and the judgement of `status --check`, from the API's JSON. */

import { cleanLine, count } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { type Fields, fields, list, number, text, texts } from "../base/json-fields.ts";
import { briefly } from "./brief.ts";
import { orderReason } from "./drain.ts";
import { failureLines, type FailedEngine } from "./failures.ts";
import { gpuText, hardwareTables, type HardwareView, readHardware } from "./hardware.ts";
import { type ProcessView, processTable, readProcess } from "./processes.ts";
import { cut, textTable } from "../base/table.ts";

/** The parts of `llmnode.status/1` that are shown; what is missing or of another kind is null. */
export interface StatusView {
  headVersion: string | null;
  workers: WorkerView[];
  models: ModelView[];
  services: ModelView[];
}

export interface WorkerView {
  name: string;
  state: string;
  reason: string | null;
  via: string | null;
  ageMs: number | null;
  hardware: HardwareView;
  engines: EngineView[];
}

export interface EngineView extends FailedEngine {
  kind: string;
  phase: string | null;
  phaseMs: number | null;
  load: LoadView | null;
  process: ProcessView;
  replicas: ReplicaView[];
}

/** What an engine says itself about its load. */
export interface LoadView {
  running: number | null;
  waiting: number | null;
  /** 0 to 1. */
  kvUsage: number | null;
}

export interface ReplicaView {
  /** Or the service. */
  model: string;
  state: string;
  reason: string | null;
  inFlight: number | null;
}

export interface ModelView {
  name: string;
  ready: number | null;
  replicas: number | null;
  inFlight: number | null;
}

/** Reads the API's JSON; unknown fields are ignored. Null when it is no status at all. */
export function readStatus(json: unknown): StatusView | null {
  const root = fields(json);
  const schema = text(root["schema"]);
  if (schema === null || !schema.startsWith("llmnode.status/")) return null;
  return {
    headVersion: text(fields(root["head"])["version"]),
    workers: list(root["workers"]).map(readWorker),
    models: list(root["models"]).map(readModel),
    services: list(root["services"]).map(readModel),
  };
}

function readModel(entry: Fields): ModelView {
  return {
    name: text(entry["name"]) ?? "?",
    ready: number(entry["ready"]),
    replicas: number(entry["replicas"]),
    inFlight: number(entry["in_flight"]),
  };
}

/** The lines for stdout. */
export function statusLines(
  status: StatusView,
  { url, columns, verbose = false }: { url: string; columns: number | null; verbose?: boolean },
): string[] {
  const version = status.headVersion === null ? "" : `   llmnode ${status.headVersion}`;
  const ready = status.models.filter((model) => (model.ready ?? 0) > 0).length;
  const summary = `${count(status.workers.length, "worker")}, ${ready} of ${count(status.models.length, "model")} ready`;
  const lines = [cut(cleanLine(`head ${url}${version}   ${summary}`), columns)];
  const { shown: seen, more } = verbose ? { shown: status, more: [] } : briefly(status);
  const add = (header: readonly string[], rows: string[][]) => {
    if (rows.length > 0) lines.push("", ...textTable(header, rows, columns));
  };
  for (const [title, offers] of [
    ["MODEL", seen.models],
    ["SERVICE", status.services],
  ] as const) {
    add(
      [title, "READY", "INFL"],
      offers.map(({ name, ready, replicas, inFlight }) => [
        name,
        `${shown(ready)}/${shown(replicas)}`,
        shown(inFlight),
      ]),
    );
  }
  add(
    ["WORKER", "STATE", "VIA", "SEEN", "GPU", "REASON"],
    seen.workers.map((worker) => [
      worker.name,
      worker.state,
      worker.via ?? "-",
      worker.ageMs === null ? "?" : `${formatDuration(worker.ageMs)} ago`,
      gpuText(worker.hardware),
      worker.reason ?? "",
    ]),
  );
  add(["ENGINE", "KIND", "STATE", "MODEL", "REPLICA", "INFL", "LOAD", "REASON"], engineRows(seen));
  if (more.length > 0) lines.push("", ...more);
  if (verbose) for (const [header, rows] of hardwareTables(status.workers)) add(header, rows);
  const engines = seen.workers.flatMap((worker) => worker.engines);
  if (verbose) add(...processTable(engines));
  return [...lines, ...failureLines(engines, verbose)];
}

/** What is wrong, in words; empty when every model and every worker is as it should be. */
export function problems(status: StatusView): string[] {
  const found: string[] = [];
  const offers = [...status.models, ...status.services];
  if (!offers.some(({ ready }) => (ready ?? 0) > 0)) found.push("no model is ready");
  for (const model of status.models) {
    if (model.ready === 0) found.push(`model ${model.name} has no ready replica`);
  }
  for (const service of status.services) {
    if (service.ready === 0) found.push(`service ${service.name} has no ready replica`);
  }
  for (const worker of status.workers) {
    const why = worker.reason === null ? "" : ` (${worker.reason})`;
    if (["stale", "lost"].includes(worker.state)) {
      found.push(`worker ${worker.name} is ${worker.state}${why}`);
    }
    for (const engine of worker.engines) found.push(...engineProblems(engine));
  }
  return found.map((line) => cleanLine(line, 300));
}

function engineProblems(engine: EngineView): string[] {
  const why = engine.reason === null ? "" : ` (${engine.reason})`;
  if (["suspect", "unhealthy", "backoff", "failed"].includes(engine.state)) {
    return [`engine ${engine.id} is ${engine.state}${why}`];
  }
  return engine.replicas
    .filter(({ state }) => ["unreachable", "overloaded", "excluded"].includes(state))
    .map((replica) => {
      const reason = replica.reason ?? engine.reason;
      const cause = reason === null ? "" : ` (${reason})`;
      return `${replica.model} on ${engine.id} is ${replica.state}${cause}`;
    });
}

/** "load 40%, 2m10s": how far it is, and for how long it has been there. */
function phaseOf({ phase, phaseMs }: EngineView): string {
  return phaseMs === null ? (phase ?? "") : `${phase}, ${formatDuration(phaseMs)}`;
}

/** One row a replica; an engine that serves nothing yet still has its row. */
function engineRows(status: StatusView): string[][] {
  return status.workers.flatMap((worker) =>
    worker.engines.flatMap((engine) => {
      const state = engine.phase === null ? engine.state : `${engine.state} (${phaseOf(engine)})`;
      const own = [engine.id, engine.kind, state];
      if (engine.replicas.length === 0) return [[...own, "-", "-", "-", "", engine.reason ?? ""]];
      return engine.replicas.map((replica) => [
        ...own,
        replica.model,
        replica.state,
        shown(replica.inFlight),
        loadText(engine.load),
        replica.reason ?? engine.reason ?? "",
      ]);
    }),
  );
}

function readWorker(entry: Record<string, unknown>): WorkerView {
  const name = text(entry["name"]) ?? "?";
  return {
    name,
    state: text(entry["state"]) ?? "?",
    reason: orderReason(entry) ?? text(entry["reason"]),
    via: text(entry["via"]),
    ageMs: number(entry["age_ms"]),
    hardware: readHardware(entry),
    engines: list(entry["engines"]).map((engine, i) => ({
      id: text(engine["id"]) ?? `${name}/${i + 1}`,
      kind: text(engine["kind"]) ?? "?",
      state: text(engine["state"]) ?? "?",
      phase: text(engine["phase"]),
      phaseMs: number(engine["phase_ms"]),
      reason: text(engine["reason"]),
      failure: text(engine["failure"]),
      hint: text(engine["hint"]),
      evidence: texts(engine["evidence"]),
      load: readLoad(engine["load"]),
      process: readProcess(engine),
      replicas: [
        ...list(engine["replicas"]).map((replica) => readReplica(replica, "model")),
        // Null for an engine with models.
        ...(engine["service"] ? [readReplica(fields(engine["service"]), "name")] : []),
      ],
    })),
  };
}

function readReplica(entry: Fields, name: "model" | "name"): ReplicaView {
  return {
    model: text(entry[name]) ?? "?",
    state: text(entry["state"]) ?? "?",
    reason: text(entry["reason"]),
    inFlight: number(entry["in_flight"]),
  };
}

function readLoad(value: unknown): LoadView | null {
  const load = fields(value);
  const figures = {
    running: number(load["running"]),
    waiting: number(load["waiting"]),
    kvUsage: number(load["kv_usage"]),
  };
  return Object.values(figures).every((figure) => figure === null) ? null : figures;
}

/** "12 run, 3 wait, cache 40%", without what is not known. */
function loadText(load: LoadView | null): string {
  if (load === null) return "";
  const { running, waiting, kvUsage } = load;
  return [
    running === null ? [] : `${running} run`,
    waiting === null ? [] : `${waiting} wait`,
    kvUsage === null ? [] : `cache ${Math.round(kvUsage * 100)}%`,
  ]
    .flat()
    .join(", ");
}

/** Unknown is shown as unknown. */
function shown(value: number | null): string {
  return value === null ? "?" : String(value);
}
