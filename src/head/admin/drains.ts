/** Operators' requests that drain workers, take that back, and restart engines. */

import type { LastReplica } from "../../cluster/liveness/drains.ts";
import type { ClusterState, Worker } from "../../cluster/state/state.ts";
import { drainRow } from "../../cluster/rows/workers.ts";
import { type Body, flag, number, optionalText, texts } from "../http/body.ts";
import type { DrainRequest, Ordered, Outcome } from "../drains/request.ts";
import type { Drains } from "../drains/drains.ts";
import type { EndedOrder } from "../drains/orders.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

/** Workers of one command. */
const MAX_WORKERS = 1000;
const DEFAULT_PATIENCE_MS = 600_000;

export function drainRoutes(state: ClusterState, drains: Drains): AdminRoute[] {
  const outcomeJson = ({ orders, last }: Outcome) => ({
    workers: orders.map((one) => orderedJson(state, one)),
    last_replicas: last.map((one) => lastJson(state, one)),
  });
  const list = async () => ({
    workers: [...state.drainOrders.values()].map((order) =>
      orderedJson(state, { order, isOld: true }),
    ),
    ended: drains.ended().map(endedJson),
  });
  const drain: AdminHandler = async (body) => outcomeJson(await drains.drain(requestOf(body)));
  const restart: AdminHandler = async (body) => outcomeJson(await drains.restart(requestOf(body)));
  const undrain: AdminHandler = async (body) => {
    const found = await drains.undrain(texts(body, "workers", MAX_WORKERS));
    return {
      workers: found.map(({ worker, order }) => ({
        name: worker?.name ?? order?.workerName ?? null,
        ...placeJson(worker),
        drain: order && drainRow(order),
      })),
    };
  };
  return [
    ["GET", "/api/v1/workers/drains", "viewer", list],
    ["POST", "/api/v1/workers/drain", "operator", drain],
    ["POST", "/api/v1/workers/restart", "operator", restart],
    ["POST", "/api/v1/workers/undrain", "operator", undrain],
  ];
}

function requestOf(body: Body): DrainRequest {
  return {
    workers: texts(body, "workers", MAX_WORKERS),
    who: optionalText(body, "who") ?? "an operator",
    message: optionalText(body, "message"),
    patienceMs: number(body, "deadline_ms") ?? DEFAULT_PATIENCE_MS,
    force: flag(body, "force"),
    dryRun: flag(body, "dry_run"),
  };
}

/** `state` null: the worker is not here. */
function placeJson(worker: Worker | null | undefined) {
  return { state: worker?.state ?? null, in_flight: worker?.inFlight ?? 0 };
}

/** `drain` is the order: with `dry_run`, the one that there would be. */
function orderedJson(state: ClusterState, { order, isOld }: Ordered) {
  const worker = state.workers.get(order.workerId);
  const engine = worker?.engines.get(order.engine ?? "");
  return {
    id: order.workerId,
    name: worker?.name ?? order.workerName,
    ...placeJson(worker),
    drain: drainRow(order),
    was_ordered: isOld,
    // Of the engine that is to restart.
    engine_state: engine?.report.state ?? null,
    engine_phase: engine?.report.phase ?? null,
  };
}

function endedJson({ order, outcome, reason }: EndedOrder): object {
  return { name: order.workerName, drain: drainRow(order), outcome, reason };
}

function lastJson(state: ClusterState, { workerId, name }: LastReplica): object {
  return { worker: state.workers.get(workerId)?.name ?? workerId, name };
}
