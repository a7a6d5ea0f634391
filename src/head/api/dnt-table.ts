/** OpenTela's `GET /v1/dnt/table`: the head and its workers in that system's form. */

import { replicasOf } from "../../cluster/state/catalog.ts";
import type { ClusterState, Worker } from "../../cluster/state/state.ts";
import { ALL_MODELS } from "../../protocol/replica-request.ts";

const NO_HARDWARE = {
  gpus: null,
  host_memory: 0,
  host_memory_bandwidth: 0,
  host_memory_used: 0,
};

/** Keys are `/<id>`; fields that have no counterpart here have that system's empty value. */
export function* dntTable(
  state: ClusterState,
  head: { id: string; version: string },
  now: number,
): Generator<[key: string, row: unknown]> {
  yield row({ id: head.id, version: head.version, connected: true, lastSeenMs: now, service: [] });
  for (const worker of [...state.workers.values()]) {
    yield row({
      id: worker.id,
      version: worker.version,
      connected: worker.state === "ready" || worker.state === "draining",
      lastSeenMs: worker.lastHeardAt,
      service: servicesOf(worker),
    });
  }
}

function row(of: {
  id: string;
  version: string;
  connected: boolean;
  lastSeenMs: number;
  service: unknown[];
}): [key: string, row: unknown] {
  const fields = {
    id: of.id,
    latency: 0,
    privileged: false,
    owner: "",
    current_offering: null,
    role: null,
    status: "",
    available_offering: null,
    service: of.service,
    last_seen: Math.floor(of.lastSeenMs / 1000),
    version: of.version,
    public_address: "",
    hardware: NO_HARDWARE,
    connected: of.connected,
    load: null,
  };
  return [`/${of.id}`, fields];
}

function servicesOf(worker: Worker): unknown[] {
  return [...worker.engines.values()].map((engine) => ({
    name: engine.report.service ?? ALL_MODELS,
    hardware: NO_HARDWARE,
    status: engine.report.state === "ready" ? "connected" : "disconnected",
    host: "localhost",
    port: String(engine.report.port ?? ""),
    identity_group: replicasOf(worker, engine)
      .filter((replica) => replica.state === "ready")
      .map((replica) => `model=${replica.card.id}`),
  }));
}
