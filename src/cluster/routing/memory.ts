/** What the router remembers of engines and models, within bounds. */

import {
  createLoadTime,
  createPrefillSpeed,
  createTokenRatio,
  type LoadTime,
  type PrefillSpeed,
  type TokenRatio,
} from "./learning.ts";
import { createTurns, type Turns } from "./policies.ts";
import { createHolderIds, type Holder } from "./prefix-index.ts";
import type { Lease, Replica } from "../state/state.ts";

/** What became of prompts that some replica held in its cache. */
export interface Affinity {
  /** Sent where the most of it was. */
  hit: number;
  /** No replica that could be picked had any of it. */
  miss: number;
  /** Sent elsewhere, since too much was to do there. */
  overridden: number;
}

export interface EngineMemory {
  speed: PrefillSpeed;
  /** The run that the holders are of. */
  run: string;
  /** By model. */
  caches: Map<string, CacheMemory>;
  /** Models that it was made to load, and since when. */
  loading: Map<string, number>;
}

/** The cache of a replica. */
interface CacheMemory {
  /** Its name in the index. */
  holder: Holder;
  /** How often in a row it did not have what it was reckoned to have. */
  wrong: number;
}

export interface ModelMemory {
  ratio: TokenRatio;
  loadTime: LoadTime;
  turns: Turns;
  affinity: Affinity;
}

export interface RoutingMemory {
  engine(key: string): EngineMemory | undefined;
  /** Of a model that is not known, what is assumed; it must not be written to. */
  model(id: string): ModelMemory;
  /** The name of a replica in the index; 0: it has none, or its cache does not seem to work. */
  trustedHolderOf(replica: Replica): Holder;
  /** Both for writing; a new run of the engine begins with an empty cache. */
  use(lease: Lease, now: number): { engine: EngineMemory; model: ModelMemory };
  /** The name for what a lease is on, made where there is none; 0 where none is left. */
  holderFor(lease: Lease, now: number): Holder;
  /** The name for what a lease is on, as long as that engine still runs; else 0. */
  holderStill(lease: Lease): Holder;
  /** What a replica's cache had of a prompt of so many bytes, against what it was reckoned to have. */
  judge(lease: Lease, found: CacheFinding): void;
  affinity(): ReadonlyMap<string, Readonly<Affinity>>;
}

export interface CacheFinding {
  claimedBytes: number;
  cachedBytes: number;
  bytes: number;
}

/** Of a claim, what the cache must have had for it to be right. */
const RIGHT_SHARE = 0.5;
/** Claims below this are no proof: caches work in blocks. */
const MIN_CLAIM_BYTES = 2048;
/**
 * After so many wrong claims in a row a cache is taken to be switched off, until an answer shows
 * otherwise. A single one only says that something was evicted, and the request has put it back
 * since: to forget it then is worse, as `scripts/bench.ts routing` shows.
 */
const MAX_WRONG = 16;

const MEMORY_LIMITS = {
  /** Those not used for the longest time are forgotten. */
  maxEngines: 8192,
  maxModels: 4096,
};
export type MemoryLimits = typeof MEMORY_LIMITS;

/** `restMs`: how long the index may still speak of an engine that is gone. */
export function createRoutingMemory(
  restMs: number,
  { maxEngines, maxModels }: MemoryLimits = MEMORY_LIMITS,
): RoutingMemory {
  const ids = createHolderIds({ restMs });
  const engines = new Map<string, EngineMemory>();
  const models = new Map<string, ModelMemory>();
  const unknownModel = newModel();
  /** What stands at the ends: most often it is what is used again. */
  let lastEngine: EngineMemory | null = null;
  let lastModel: ModelMemory | null = null;

  const retireAll = ({ caches }: EngineMemory, now: number) => {
    for (const { holder } of caches.values()) ids.retire(holder, now);
    caches.clear();
  };
  const cacheOf = ({ engineKey, engineRun, model }: Lease) => {
    const memory = engines.get(engineKey);
    return memory?.run === engineRun ? memory.caches.get(model) : undefined;
  };

  const use: RoutingMemory["use"] = ({ engineKey, engineRun, model: id }, now) => {
    const engine = engines.get(engineKey) ?? newEngine(engineRun);
    if (engine.run !== engineRun) {
      retireAll(engine, now);
      engine.run = engineRun;
      engine.loading.clear();
    }
    const model = models.get(id) ?? newModel();
    if (engine === lastEngine && model === lastModel) return { engine, model };
    lastEngine = engine;
    lastModel = model;
    moveToEnd(models, id, model);
    moveToEnd(engines, engineKey, engine);
    if (models.size > maxModels) removeFirst(models);
    if (engines.size > maxEngines) {
      const forgotten = removeFirst(engines);
      if (forgotten) retireAll(forgotten, now);
    }
    return { engine, model };
  };

  return {
    engine: (key) => engines.get(key),
    model: (id) => models.get(id) ?? unknownModel,
    trustedHolderOf({ engine, card }) {
      const memory = engines.get(engine.key);
      const cache = memory?.run === engine.report.run ? memory.caches.get(card.id) : undefined;
      return cache === undefined || cache.wrong >= MAX_WRONG ? 0 : cache.holder;
    },
    use,
    holderFor(lease, now) {
      const { caches } = use(lease, now).engine;
      const known = caches.get(lease.model);
      if (known !== undefined) return known.holder;
      const holder = ids.take(now);
      if (holder !== 0) caches.set(lease.model, { holder, wrong: 0 });
      return holder;
    },
    holderStill: (lease) => cacheOf(lease)?.holder ?? 0,
    judge(lease, { claimedBytes, cachedBytes, bytes }) {
      const cache = cacheOf(lease);
      if (cache === undefined) return;
      if (claimedBytes < MIN_CLAIM_BYTES) {
        if (cachedBytes >= Math.max(MIN_CLAIM_BYTES, RIGHT_SHARE * bytes)) cache.wrong = 0;
      } else if (cachedBytes >= RIGHT_SHARE * claimedBytes) cache.wrong = 0;
      else cache.wrong += 1;
    },
    affinity: () => new Map([...models].map(([id, { affinity }]) => [id, affinity])),
  };
}

function newEngine(run: string): EngineMemory {
  return { speed: createPrefillSpeed(), run, caches: new Map(), loading: new Map() };
}

function newModel(): ModelMemory {
  return {
    ratio: createTokenRatio(),
    loadTime: createLoadTime(),
    turns: createTurns(),
    affinity: { hit: 0, miss: 0, overridden: 0 },
  };
}

function moveToEnd<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
}

function removeFirst<V>(map: Map<string, V>): V | undefined {
  for (const [key, value] of map) {
    map.delete(key);
    return value;
  }
  return undefined;
}
