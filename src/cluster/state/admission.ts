/** Who may join: versions, takeovers, names, limits. */

import type { ErrorCode } from "../../protocol/errors.ts";
import { type Hello, MIN_PROTOCOL, PROTOCOL, type Refusal } from "../../protocol/messages.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { endRun, forget } from "./registry.ts";
import type { ClusterState, Worker } from "./state.ts";
import { NO_HARDWARE } from "./telemetry.ts";

const MAX_LABELS = 32;
const MAX_TEXT = 512;

/** Names of workers, as people type them and as metrics and logs carry them. */
const WORKER_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;
const WORKER_ID = /^[0-9a-z-]{8,64}$/;

/** A session that is not accepted. */
export interface RefusedJoin extends Refusal {
  code: ErrorCode;
}

export type JoinResult =
  | {
      accepted: true;
      session: number;
      worker: Worker;
      /** The session of the same worker that this one replaces. */
      replaces: number | null;
    }
  | { accepted: false; refusal: RefusedJoin };

/** Decides about a Hello and, if it is accepted, enters the worker. */
export function join(
  state: ClusterState,
  request: { hello: Hello; address: string },
  now: number,
): JoinResult {
  const { hello, address } = request;
  const known = state.workers.get(hello.workerId);
  const refusal =
    refuseVersion(hello) ?? refuseForm(hello) ?? refuseSecondRun(state, { hello, known }, now);
  if (refusal) return { accepted: false, refusal };
  if (!known && state.workers.size >= state.limits.maxWorkers && !dropGone(state)) {
    const reason = `this head already has ${state.limits.maxWorkers} workers`;
    return refuse({ code: "head_full", reason, hint: "start a second head", retry: true });
  }
  const name = nameFor(state, hello);
  if (name === null) {
    const reason = `another worker is called ${hello.name}`;
    const hint = "choose another --name, or leave it out";
    return refuse({ code: "name_in_use", reason, hint, retry: false });
  }
  state.sessions += 1;
  // Another process that took the engine over while it ran goes on where the old one was.
  const kept = known && (known.run === hello.run || isContinued(known, hello)) ? known : null;
  const worker: Worker = {
    id: hello.workerId,
    name,
    run: hello.run,
    epoch: hello.epoch,
    session: state.sessions,
    version: hello.version,
    labels: hello.labels,
    host: hello.host,
    address,
    data: hello.data || "auto",
    connected: true,
    lastHeardAt: now,
    drain: known?.run === hello.run ? known.drain : null,
    left: false,
    state: kept ? kept.state : "ready",
    reason: kept ? kept.reason : null,
    stateSince: kept ? kept.stateSince : now,
    engines: kept ? kept.engines : new Map(),
    hardware: kept ? kept.hardware : NO_HARDWARE,
    inFlight: kept ? kept.inFlight : 0,
  };
  state.workers.set(worker.id, worker);
  if (kept) passOn(state, kept.run, worker);
  else if (known) endRun(state, known.run, now);
  state.revision += 1;
  return {
    accepted: true,
    session: worker.session,
    worker,
    replaces: known?.connected ? known.session : null,
  };
}

/**
 * Whether the process of the known run has ended and left its engine to this one. Only who has read
 * the slot's folder, and holds its lock, can name that run.
 */
function isContinued(known: Worker | undefined, hello: Hello): boolean {
  return known !== undefined && !known.left && known.run === hello.continues;
}

/** Requests that reach the engine directly go on; those by lane end with their connections. */
function passOn(state: ClusterState, run: string, worker: Worker): void {
  if (run === worker.run) return;
  for (const lease of state.leases.values()) {
    if (lease.workerId === worker.id && lease.workerRun === run) lease.workerRun = worker.run;
  }
}

function refuse(refusal: RefusedJoin): JoinResult {
  return { accepted: false, refusal };
}

/** Whether worker and head have no version of the contract in common. */
export function refuseVersion(hello: Hello): RefusedJoin | null {
  const isNewer = hello.minProtocol > PROTOCOL;
  if (!isNewer && hello.protocol >= MIN_PROTOCOL) return null;
  const age = isNewer ? "newer" : "older";
  const reason = `the worker (${hello.version}) is ${age} than this head understands`;
  const hint = `update llmnode on the ${isNewer ? "head" : "worker"}`;
  return { code: "version_unsupported", reason, hint, retry: false };
}

function refuseSecondRun(
  state: ClusterState,
  both: { hello: Hello; known: Worker | undefined },
  now: number,
): RefusedJoin | null {
  const { hello, known } = both;
  if (!known || known.left || isContinued(known, hello)) return null;
  if (known.run === hello.run) {
    if (hello.epoch > known.epoch) return null;
    return {
      code: "worker_in_use",
      reason: `session ${hello.epoch} of this worker is older than session ${known.epoch}`,
      hint: "",
      retry: true,
    };
  }
  const silentMs = now - known.lastHeardAt;
  if (silentMs >= state.limits.replaceRunAfterMs) return null;
  return {
    code: "worker_in_use",
    reason:
      `worker ${known.name} already runs as another process at ${known.address}, ` +
      `heard ${formatDuration(silentMs)} ago`,
    hint: "if it has just ended, this is accepted in a few seconds; if the machine is a copy, give it its own --name and data directory",
    retry: true,
  };
}

/** A free name for the worker, or null when the one that a person chose is taken. */
function nameFor(state: ClusterState, hello: Hello): string | null {
  const taken = new Map<string, Worker>();
  for (const worker of state.workers.values()) {
    if (worker.id !== hello.workerId) taken.set(worker.name, worker);
  }
  const holder = taken.get(hello.name);
  if (!holder) return hello.name;
  if (holder.left || holder.state === "lost") {
    forget(state, holder);
    return hello.name;
  }
  if (hello.nameChosen) return null;
  // The same worker gets the same name again, whichever others have come or gone.
  for (let length = 4; length <= hello.workerId.length; length += 4) {
    const name = `${hello.name}-${hello.workerId.slice(0, length)}`;
    if (!taken.has(name)) return name;
  }
  return null;
}

/** Makes room by forgetting the worker that has been gone longest; false when all are there. */
function dropGone(state: ClusterState): boolean {
  let oldest: Worker | null = null;
  for (const worker of state.workers.values()) {
    if (!worker.left && worker.state !== "lost") continue;
    if (!oldest || worker.lastHeardAt < oldest.lastHeardAt) oldest = worker;
  }
  if (oldest) forget(state, oldest);
  return oldest !== null;
}

/** A Hello that breaks the contract: refused with the first thing that is wrong with it. */
function refuseForm(hello: Hello): RefusedJoin | null {
  const labels = Object.entries(hello.labels);
  const wrong = !WORKER_ID.test(hello.workerId)
    ? "worker_id is not 8 to 64 of [0-9a-z-]"
    : !WORKER_NAME.test(hello.name)
      ? `the name ${JSON.stringify(cleanLine(hello.name, 80))} is not 1 to 64 letters, digits, '.', '_' or '-'`
      : hello.run === "" || hello.run.length > 64
        ? "run is empty or too long"
        : labels.length > MAX_LABELS
          ? `it has ${labels.length} labels, at most ${MAX_LABELS} are allowed`
          : labels.some(([key, value]) => key.length + value.length > MAX_TEXT)
            ? `a label is longer than ${MAX_TEXT} characters`
            : null;
  if (wrong === null) return null;
  return { code: "bad_message", reason: wrong, hint: "", retry: false };
}
