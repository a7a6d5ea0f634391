/** What one kind of engine has to say for itself, so that the rest can be shared by all. */

import type { LogLine } from "../core/load.ts";
import type { ModelMetrics } from "../core/metrics.ts";
import type { SimOptions } from "../core/options.ts";
import type { Serving } from "../core/body.ts";
import type { Engine } from "../core/generate.ts";

export type Route = (req: Request) => Response | Promise<Response>;

export interface Methods {
  GET?: Route;
  HEAD?: Route;
  POST?: Route;
  DELETE?: Route;
  /** The shape of its failures, where it is not the dialect's usual one. */
  failure?: (error: unknown) => Response;
}

/** By path; one that ends in a star stands for all paths that go on from there. */
export interface RouteTable {
  [path: string]: Methods;
}

/** All that routes are made of. */
export interface Served {
  engine: Engine;
  options: SimOptions;
  serving: Serving;
  /** By model as named at the start; adapters count for their base. */
  metrics: ReadonlyMap<string, ModelMetrics>;
  /** When the engine was started, in seconds since the epoch. */
  createdAt: number;
  /** How long a health check takes. */
  healthTimeMs: number;
}

export interface Dialect {
  /** The lines of a load that takes `loadTimeMs`, in order; none for one that loads nothing. */
  loadLines: (model: string, loadTimeMs: number) => LogLine[];
  /** The share of the load after which the port is opened; 1: at its end. */
  opensAt: number;
  /** What is printed when it is ready; `address` is `host:port`. The first line names it. */
  readyLines: (address: string) => string[];
  /** The refusal of a request that comes before the end of the load; null: it is answered. */
  whileLoading: (path: string) => Response | null;
  /** On every answer. */
  headers: Readonly<Record<string, string>>;
  keepAliveMs: number | null;
  /** Whether its end cuts running answers off; else they end with the finish reason `abort`. */
  cutsAtStop: boolean;
  healthTimeMs: number;
  /** Whether it can serve LoRA adapters as models of their own. */
  hasAdapters: boolean;
  /** The model among `models` that a client's name means, or null. */
  find: (named: string, models: readonly string[]) => string | null;
  /** Any failure as an answer, where a route has no shape of its own. */
  failure: (error: unknown) => Response;
  routes: (served: Served) => RouteTable;
  /** Routes that change the engine, which no client should ever reach; `METHOD /path`. */
  adminRoutes: readonly string[];
}

/** What most engines have in common. */
export const ORDINARY = {
  opensAt: 1,
  whileLoading: () => null,
  headers: {},
  keepAliveMs: null,
  cutsAtStop: false,
  healthTimeMs: 0,
  hasAdapters: false,
} satisfies Partial<Dialect>;

/** An engine that goes by the exact name. */
export function findExactly(named: string, models: readonly string[]): string | null {
  return models.includes(named) ? named : null;
}

/** An engine that serves one model under any name. */
export function findAnything(named: string, models: readonly string[]): string | null {
  return findExactly(named, models) ?? models[0] ?? null;
}
