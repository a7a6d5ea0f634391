/** Models and services as viewers see them: one row each. */

import type { ModelRow, RowState } from "../../protocol/watch-rows.ts";
import { effectiveState } from "../state/candidates.ts";
import { queueDepths } from "../state/queue.ts";
import { isServing, serviceCatalog } from "../state/catalog.ts";
import type { Catalog, Replica } from "../state/state.ts";
import { most, type RowContext, tally } from "./context.ts";
import { engineRows } from "./engines.ts";

/** One row for each model and each alias, sorted by name; each as it is when it is taken. */
export function* modelRows(context: RowContext): Generator<ModelRow> {
  const rowOf = offerRows(context, context.catalog);
  const models = [...context.catalog.keys()].map((name) => ({ name, models: null }));
  const all = [...models, ...context.aliases].sort((a, b) => byName(a.name, b.name));
  for (const { name, models: targets } of all) {
    if (targets === null) yield rowOf(name);
    else {
      const there = targets.filter((target) => context.catalog.has(target));
      yield aliasRow(name, { models: targets, rows: there.map(rowOf) });
    }
  }
}

/** The same of the HTTP servers that are asked for by name. */
export function* serviceRows(context: RowContext): Generator<ModelRow> {
  const services = serviceCatalog(context.state);
  const rowOf = offerRows(context, services);
  for (const name of services.keys().toArray().sort(byName)) yield rowOf(name);
}

/** Gives the row of what is offered by that name; its requests are those of the moment it begins. */
function offerRows(context: RowContext, offers: Catalog): (name: string) => ModelRow {
  const inFlight = tally(context.state.leases.values().map(({ model }) => model));
  const queued = queueDepths(context.state.queue);
  return (name) =>
    modelRow(context, {
      name,
      replicas: offers.get(name) ?? [],
      inFlight: inFlight.get(name) ?? 0,
      queued: queued.get(name) ?? 0,
    });
}

function byName(a: string, b: string): number {
  return a.localeCompare(b);
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
function aliasRow(
  name: string,
  { models, rows }: { models: readonly string[]; rows: readonly ModelRow[] },
): ModelRow {
  const best = rows.find(({ ready }) => ready > 0) ?? rows[0];
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
