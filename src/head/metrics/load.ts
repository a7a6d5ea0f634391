/** The metrics of what engines say about their own load: those that are known and not old. */

import { loadOf } from "../../cluster/state/load.ts";
import type { ClusterState, Engine, LoadFigures } from "../../cluster/state/state.ts";
import type { Registry } from "./prometheus.ts";

type Read = (load: LoadFigures) => number | null;

const GAUGES: [name: string, help: string, read: Read][] = [
  ["running_requests", "Requests that the engine runs, by its own word.", (load) => load.running],
  [
    "waiting_requests",
    "Requests that wait inside the engine, by its own word.",
    (load) => load.waiting,
  ],
  [
    "kv_cache_usage_ratio",
    "Share of the engine's cache that is taken, 0 to 1.",
    (load) => load.kvUsage,
  ],
];

const COUNTERS: [name: string, help: string, read: Read][] = [
  [
    "prefix_hit_tokens_total",
    "Prompt tokens that the engine found in its prefix cache.",
    (load) => load.prefixHitTokens,
  ],
  [
    "prefix_query_tokens_total",
    "Prompt tokens that the engine looked up in its prefix cache.",
    (load) => load.prefixQueryTokens,
  ],
];

/** Series that a figure is not known for are absent. */
export function registerLoadMetrics(
  registry: Registry,
  { state, now }: { state: ClusterState; now: () => number },
): void {
  const labelNames = ["worker", "engine"] as const;
  for (const [rows, type] of [
    [GAUGES, "gauge"],
    [COUNTERS, "counter"],
  ] as const) {
    for (const [name, help, read] of rows) {
      registry.collected({ name: `llmnode_engine_${name}`, help, labelNames, type }, (series) => {
        for (const { worker, engine } of engines(state)) {
          const load = loadOf(state, engine, now());
          const figure = load && read(load);
          if (figure !== null) series.inc({ worker, engine: engine.number }, figure);
        }
      });
    }
  }
  registry.collected(
    {
      name: "llmnode_engine_max_in_flight",
      help: "Requests that the engine should have at once.",
      labelNames,
    },
    (gauge) => {
      for (const { worker, engine } of engines(state)) {
        const { maxInFlight } = engine;
        if (maxInFlight !== null) gauge.inc({ worker, engine: engine.number }, maxInFlight);
      }
    },
  );
}

function* engines(state: ClusterState): Generator<{ worker: string; engine: Engine }> {
  for (const worker of state.workers.values()) {
    if (worker.left || worker.state === "lost") continue;
    for (const engine of worker.engines.values()) yield { worker: worker.name, engine };
  }
}
