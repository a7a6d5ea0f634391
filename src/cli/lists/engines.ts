/** Engines as `llmnode ps` shows them, from the head's status. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { countText } from "../../top/text/figures.ts";
import { type Fields, fields, list, number, text, texts } from "../base/json-fields.ts";
import type { Listing } from "./listing.ts";
import { durationText } from "./words.ts";

/** What is unknown is null. */
export interface PsRow {
  /** `worker/1`. */
  name: string;
  worker: string;
  kind: string | null;
  /** The engine's, or the worker's while nothing gets there. */
  state: string;
  phase: string | null;
  reason: string | null;
  models: string[];
  service: string | null;
  /** The numbers of its GPUs; null: not known, or none. */
  gpus: number[] | null;
  in_flight: number;
  /** How long it has been ready; null: it is not. */
  up_ms: number | null;
  restarts: number | null;
  pid: number | null;
  container: string | null;
}

export const ENGINES: Listing<PsRow> = {
  schema: "llmnode.engines/1",
  member: "engines",
  fields: [
    "name",
    "worker",
    "kind",
    "state",
    "phase",
    "reason",
    "models",
    "service",
    "gpus",
    "in_flight",
    "up_ms",
    "restarts",
    "pid",
    "container",
  ],
  nameOf: ({ name }) => name,
  columns: [
    { head: "ENGINE", field: "name", text: ({ name }) => name },
    {
      head: "MODEL",
      field: "models",
      text: ({ models, service }) =>
        models.join(", ") || (service === null ? "-" : `service ${service}`),
    },
    { head: "WORKER", field: "worker", text: ({ worker }) => worker },
    { head: "KIND", field: "kind", wide: true, text: ({ kind }) => kind ?? "-" },
    {
      head: "STATE",
      field: "state",
      text: ({ state, phase }) => (phase === null ? state : `${state} ${phase}`),
    },
    { head: "GPUS", field: "gpus", text: ({ gpus }) => gpusText(gpus) },
    { head: "INFL", field: "in_flight", text: ({ in_flight }) => countText(in_flight) },
    { head: "UP", field: "up_ms", text: ({ up_ms }) => durationText(up_ms) },
    {
      head: "RESTARTS",
      field: "restarts",
      wide: true,
      text: ({ restarts }) => countText(restarts),
    },
    {
      head: "PID",
      field: "pid",
      wide: true,
      text: ({ pid }) => (pid === null ? "-" : String(pid)),
    },
    {
      head: "CONTAINER",
      field: "container",
      wide: true,
      text: ({ container }) => container ?? "",
    },
    { head: "REASON", field: "reason", text: ({ reason }) => reason ?? "" },
  ],
};

/** Engines and the head that told of them. Throws `bad_message` for what is no status. */
export function readEngines(body: string): { rows: PsRow[]; head: { id: string; time: string } } {
  const root = fields(JSON.parse(body));
  const head = fields(root["head"]);
  if (text(root["schema"])?.startsWith("llmnode.status/") !== true) {
    throw new LlmnodeError(
      "bad_message",
      "what the head answers is no status that this version knows",
    );
  }
  return {
    rows: list(root["workers"]).flatMap(enginesOf),
    head: { id: text(head["id"]) ?? "", time: text(head["time"]) ?? "" },
  };
}

/** While a worker is in one of these, its engine's state says nothing. */
const WORKER_SAYS = ["stale", "lost", "left"];

function enginesOf(worker: Fields): PsRow[] {
  const name = text(worker["name"]) ?? "?";
  const workerState = text(worker["state"]) ?? "?";
  const gpus = list(worker["gpus"]).flatMap((gpu) => {
    const index = number(gpu["index"]);
    return index === null ? [] : [{ uuid: text(gpu["uuid"]), index }];
  });
  return list(worker["engines"]).map((engine, i): PsRow => {
    const own = text(engine["state"]) ?? "?";
    const isAway = WORKER_SAYS.includes(workerState);
    const isLeaving = own === "ready" && ["draining", "drained"].includes(workerState);
    const uuids = texts(engine["gpus"]);
    const used = uuids.length === 0 ? gpus : gpus.filter(({ uuid }) => uuids.includes(uuid ?? ""));
    const replicas = list(engine["replicas"]);
    const service = fields(engine["service"]);
    return {
      name: text(engine["id"]) ?? `${name}/${i + 1}`,
      worker: name,
      kind: text(engine["kind"]),
      state: isAway || isLeaving ? workerState : own,
      phase: isAway ? null : text(engine["phase"]),
      reason: (isAway ? text(worker["reason"]) : null) ?? text(engine["reason"]),
      models: replicas.flatMap((replica) => text(replica["model"]) ?? []),
      service: text(service["name"]),
      gpus: used.length === 0 ? null : used.map(({ index }) => index),
      in_flight: [...replicas, service].reduce(
        (sum, replica) => sum + (number(replica["in_flight"]) ?? 0),
        0,
      ),
      up_ms: own === "ready" && !isAway ? number(engine["state_ms"]) : null,
      restarts: number(engine["restarts"]),
      pid: number(engine["pid"]),
      container: text(engine["container"]),
    };
  });
}

/** "0-3", "0,2": as engines are told them. */
function gpusText(gpus: readonly number[] | null): string {
  if (gpus === null) return "-";
  const sorted = [...gpus].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; i += 1) {
    const first = sorted[i];
    while (sorted[i + 1] === (sorted[i] ?? 0) + 1) i += 1;
    parts.push(first === sorted[i] ? String(first) : `${first}-${sorted[i]}`);
  }
  return parts.join(",");
}
