/** Models and services as viewers see them: one row each. */

import type { ModelRow, RowState } from "../../protocol/watch-rows.ts";
import { effectiveState } from "../state/candidates.ts";
import { queueDepths } from "../state/queue.ts";
import { isServing, serviceCatalog } from "../state/catalog.ts";
import type { Catalog, Replica } from "../state/state.ts";
import { most, type RowContext, tally } from "./context.ts";
import { engineRows } from "./engines.ts";

/** One row for each model and each alias, sorted by name. */
export function modelRows(context: RowContext): ModelRow[] {
  const rows = offerRows(context, context.catalog);
  const known = new Map(rows.map((row) => [row.name, row]));
  for (const { name, models } of context.aliases) rows.push(aliasRow(name, models, known));
  return rows.sort(byName);
}

/** The same of the HTTP servers that are asked for by name. */
export function serviceRows(context: RowContext): ModelRow[] {
  return offerRows(context, serviceCatalog(context.state)).sort(byName);
}

function offerRows(context: RowContext, offers: Catalog): ModelRow[] {
  const inFlight = tally(context.state.leases.values().map(({ model }) => model));
  const queued = queueDepths(context.state.queue);
  return [...offers].map(([name, replicas]) =>
    modelRow(context, {
      name,
      replicas,
      inFlight: inFlight.get(name) ?? 0,
      queued: queued.get(name) ?? 0,
    }),
  );
}

function byName(a: ModelRow, b: ModelRow): number {
  return a.name.localeCompare(b.name);
}

export function modelDetail(context: RowContext, row: ModelRow): ModelRow {
  const replicas = context.catalog.get(row.name) ?? [];
  const rowOf = engineRows(context);
  return { ...row, engines: replicas.map(({ worker, engine }) => rowOf(worker, engine)) };
}

function modelRow(
  context: RowContext,
  about: { name: string; replicas: readonly Replica[]; inFlight: number; queued: number },
): ModelRow {
  const { name, replicas } = about;
  const throughput = context.ofModel(name);
  const states = replicas.map(
    (replica) => effectiveState(context.state, replica, context.now).state,
  );
  const count = (wanted: string) => states.filter((one) => one === wanted).length;
  const ready = states.filter(isServing).length;
  const starting = count("starting");
  return {
    name,
    alias_of: null,
    state:
      ready > 0
        ? "ready"
        : starting > 0
          ? "starting"
          : count("draining") > 0
            ? "draining"
            : "failed",
    ready,
    starting,
    draining: count("draining"),
    replicas: replicas.length,
    kinds: [...new Set(replicas.map(({ engine }) => engine.report.kind))].sort(),
    in_flight: about.inFlight,
    queued: about.queued,
    requests_per_s: throughput.requestsPerS,
    output_tokens_per_s: throughput.outputTokensPerS,
    ttft_ms: throughput.ttftMs,
    itl_ms: throughput.itlMs,
    context: most(replicas.map(({ card }) => card.maxModelLen)),
    error_ratio: throughput.errorRatio,
    workers: [...new Set(replicas.map(({ worker }) => worker.name))].sort(),
    engines: null,
  };
}

/** As its first model that is there. */
function aliasRow(name: string, models: readonly string[], known: Map<string, ModelRow>): ModelRow {
  const targets = models.flatMap((model) => known.get(model) ?? []);
  const best = targets.find(({ ready }) => ready > 0) ?? targets[0];
  const state: RowState = best?.state ?? "failed";
  const none = {
    ready: 0,
    starting: 0,
    draining: 0,
    replicas: 0,
    kinds: [],
    workers: [],
    context: null,
  };
  return {
    ...(best ?? none),
    name,
    alias_of: models.join(", "),
    state,
    // Counted where they run: under the model's own name.
    in_flight: 0,
    queued: 0,
    requests_per_s: null,
    output_tokens_per_s: null,
    ttft_ms: null,
    itl_ms: null,
    error_ratio: null,
    engines: null,
  };
}
