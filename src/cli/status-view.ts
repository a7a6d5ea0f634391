/** The screen of `llmnode status`, and the judgement of `status --check`, from the API's JSON. */

import { cleanLine, count } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";
import { cut, textTable } from "./table.ts";

/** The parts of `llmnode.status/1` that are shown; what is missing or of another kind is null. */
export interface StatusView {
  headVersion: string | null;
  workers: WorkerView[];
  models: ModelView[];
}

export interface WorkerView {
  name: string;
  state: string;
  reason: string | null;
  via: string | null;
  ageMs: number | null;
  engines: EngineView[];
}

export interface EngineView {
  id: string;
  kind: string;
  state: string;
  phase: string | null;
  reason: string | null;
  replicas: ReplicaView[];
}

export interface ReplicaView {
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
    models: list(root["models"]).map((entry) => ({
      name: text(entry["name"]) ?? "?",
      ready: number(entry["ready"]),
      replicas: number(entry["replicas"]),
      inFlight: number(entry["in_flight"]),
    })),
  };
}

/** The lines for stdout. */
export function statusLines(
  status: StatusView,
  { url, columns }: { url: string; columns: number | null },
): string[] {
  const version = status.headVersion === null ? "" : `   llmnode ${status.headVersion}`;
  const ready = status.models.filter((model) => (model.ready ?? 0) > 0).length;
  const summary = `${count(status.workers.length, "worker")}, ${ready} of ${count(status.models.length, "model")} ready`;
  const lines = [cut(cleanLine(`head ${url}${version}   ${summary}`), columns)];
  const add = (header: readonly string[], rows: string[][]) => {
    if (rows.length > 0) lines.push("", ...textTable(header, rows, columns));
  };
  add(
    ["MODEL", "READY", "INFL"],
    status.models.map((model) => [
      model.name,
      `${shown(model.ready)}/${shown(model.replicas)}`,
      shown(model.inFlight),
    ]),
  );
  add(
    ["WORKER", "STATE", "VIA", "SEEN", "REASON"],
    status.workers.map((worker) => [
      worker.name,
      worker.state,
      worker.via ?? "-",
      worker.ageMs === null ? "?" : `${formatDuration(worker.ageMs)} ago`,
      worker.reason ?? "",
    ]),
  );
  add(["ENGINE", "KIND", "STATE", "MODEL", "REPLICA", "INFL", "REASON"], engineRows(status));
  return lines;
}

/** What is wrong, in words; empty when every model and every worker is as it should be. */
export function problems(status: StatusView): string[] {
  const found: string[] = [];
  if (!status.models.some((model) => (model.ready ?? 0) > 0)) found.push("no model is ready");
  for (const model of status.models) {
    if (model.ready === 0) found.push(`model ${model.name} has no ready replica`);
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
    .filter(({ state }) => ["unreachable", "latched", "excluded"].includes(state))
    .map((replica) => {
      const reason = replica.reason ?? engine.reason;
      const cause = reason === null ? "" : ` (${reason})`;
      return `${replica.model} on ${engine.id} is ${replica.state}${cause}`;
    });
}

/** One row a replica; an engine that serves nothing yet still has its row. */
function engineRows(status: StatusView): string[][] {
  return status.workers.flatMap((worker) =>
    worker.engines.flatMap((engine) => {
      const state = engine.phase === null ? engine.state : `${engine.state} (${engine.phase})`;
      const own = [engine.id, engine.kind, state];
      if (engine.replicas.length === 0) return [[...own, "-", "-", "-", engine.reason ?? ""]];
      return engine.replicas.map((replica) => [
        ...own,
        replica.model,
        replica.state,
        shown(replica.inFlight),
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
    reason: text(entry["reason"]),
    via: text(entry["via"]),
    ageMs: number(entry["age_ms"]),
    engines: list(entry["engines"]).map((engine, i) => ({
      id: text(engine["id"]) ?? `${name}/${i + 1}`,
      kind: text(engine["kind"]) ?? "?",
      state: text(engine["state"]) ?? "?",
      phase: text(engine["phase"]),
      reason: text(engine["reason"]),
      replicas: list(engine["replicas"]).map((replica) => ({
        model: text(replica["model"]) ?? "?",
        state: text(replica["state"]) ?? "?",
        reason: text(replica["reason"]),
        inFlight: number(replica["in_flight"]),
      })),
    })),
  };
}

function fields(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return {};
  return Object.fromEntries(Object.entries(value));
}

function list(value: unknown): Array<Record<string, unknown>> {
  return Array.isArray(value) ? value.map(fields) : [];
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Unknown is shown as unknown. */
function shown(value: number | null): string {
  return value === null ? "?" : String(value);
}
