/** Picks the replica for a request, and learns from how the request fares there. */

import { createPrefillSpeed } from "./learning.ts";
import { type At, type Knowledge, pick } from "./pick.ts";
import { policyFinder, ROUTE_SETTINGS, type RouteSettings } from "./policies.ts";
import {
  createPrefixIndex,
  PREFIX_INDEX_DEFAULTS,
  type PrefixIndexOptions,
} from "./prefix-index.ts";
import { type Affinity, createRoutingMemory, type RoutingMemory } from "./memory.ts";
import type { Lease, Replica } from "../state/state.ts";
import type { LeaseEnd, ReplicaRequest } from "../../protocol/replica-request.ts";

/** A replica, and what the request is reckoned to cost there. */
export interface Choice {
  replica: Replica;
  /** Tokens of the prompt, and those of them that its cache is not reckoned to hold. */
  promptTokens: number;
  missTokens: number;
  /** Why this one, in a line for a header; null where it is not asked for. */
  explanation: string | null;
}

/** What is known of where requests do best; each lease passes through it in this order. */
export interface Router {
  /** Null: there are no candidates. What it chose is `sent` at once, or not at all. */
  choose(candidates: readonly Replica[], request: ReplicaRequest, at: At): Choice | null;
  /** The request is about to be sent. */
  sent(lease: Lease, now: number): void;
  /** Its first byte came back; not called where none came. */
  started(lease: Lease, now: number): void;
  /** It is over; always called, once. */
  released(lease: Lease, end: LeaseEnd & { now: number }): void;
  /** Whether the bytes of a prompt for this model can change where it goes. */
  usesPrefixes(model: string): boolean;
  /** What became of prompts, by model. */
  affinity(): ReadonlyMap<string, Readonly<Affinity>>;
}

export interface RouterOptions
  extends
    Partial<RouteSettings>,
    Partial<Pick<Knowledge, "foreignLoad" | "maxScored" | "sampled">> {
  index?: Partial<PrefixIndexOptions>;
}

const MAX_SCORED = 64;
const SAMPLED = 32;
/** A lease on its way, with what was known when it was sent. */
interface Flight {
  claimedBytes: number;
  affinity: keyof Affinity | null;
  /** Whether the engine had nothing else to do. */
  wasIdle: boolean;
  /** Whether its model had to be loaded first. */
  wasCold: boolean;
  ttftMs: number | null;
}

export function createRouter(options: RouterOptions = {}): Router {
  const settings: RouteSettings = { ...ROUTE_SETTINGS, ...options };
  const foreignLoad = options.foreignLoad ?? (() => 0);
  const policyOf = policyFinder(settings);
  const index = createPrefixIndex(options.index);
  const memory = createRoutingMemory(options.index?.maxAgeMs ?? PREFIX_INDEX_DEFAULTS.maxAgeMs);
  const known: Knowledge = {
    index,
    memory,
    tuning: settings.tuning,
    unknownSpeed: createPrefillSpeed(),
    foreignLoad,
    maxScored: options.maxScored ?? MAX_SCORED,
    sampled: options.sampled ?? SAMPLED,
  };
  const flights = new Map<number, Flight>();
  /** Of the last choice, until it is sent. */
  let chosen: Flight | null = null;
  return {
    choose(candidates, request, at) {
      if (candidates.length === 0) return null;
      const policy = policyOf(candidates[0]?.card.id ?? "");
      const picked = pick(known, candidates, { request, policy, at });
      if (picked === null) return null;
      const { replica, claimedBytes, affinity, explanation } = picked;
      const { bytesPerToken } = memory.model(replica.card.id).ratio;
      const wasIdle = replica.engine.inFlight + foreignLoad(replica.engine, at.now) === 0;
      const wasCold = replica.card.loaded === false;
      chosen = { claimedBytes, affinity, wasIdle, wasCold, ttftMs: null };
      const promptTokens = Math.ceil((request.prompt?.bytes ?? 0) / bytesPerToken);
      const missTokens = Math.max(0, promptTokens - Math.floor(claimedBytes / bytesPerToken));
      return { replica, promptTokens, missTokens, explanation };
    },
    sent(lease, now) {
      const flight = chosen;
      if (flight === null) return;
      chosen = null;
      flights.set(lease.id, flight);
      const { engine, model } = memory.use(lease, now);
      if (flight.affinity !== null) model.affinity[flight.affinity] += 1;
      if (flight.wasCold && !engine.loading.has(lease.model)) engine.loading.set(lease.model, now);
      const policy = policyOf(lease.model);
      if (policy === "round-robin") model.turns.served(lease.engineKey);
      const { prompt } = lease.request;
      if (policy !== "auto" || prompt === null || prompt.ends.length === 0) return;
      index.insert(prompt, memory.holderFor(lease, now), now);
    },
    started(lease, now) {
      const flight = flights.get(lease.id);
      if (!flight || flight.ttftMs !== null) return;
      flight.ttftMs = now - lease.grantedAt;
      if (flight.wasCold) memory.engine(lease.engineKey)?.loading.delete(lease.model);
    },
    released(lease, end) {
      const flight = flights.get(lease.id);
      if (!flight) return;
      flights.delete(lease.id);
      if (flight.wasCold) memory.engine(lease.engineKey)?.loading.delete(lease.model);
      const { prompt } = lease.request;
      if (flight.ttftMs === null && end.outcome !== "ok") {
        // What it had before, it has still.
        if (prompt !== null) index.drop(prompt, memory.holderStill(lease), flight.claimedBytes);
        return;
      }
      learn(memory, { lease, flight }, end);
    },
    usesPrefixes: (model) => policyOf(model) === "auto",
    affinity: memory.affinity,
  };
}

/** What the engine reported of a prompt, against what it was reckoned to be. */
function learn(
  memory: RoutingMemory,
  { lease, flight }: { lease: Lease; flight: Flight },
  end: LeaseEnd & { now: number },
): void {
  const { prompt } = lease.request;
  if (prompt === null) return;
  const { engine, model } = memory.use(lease, end.now);
  const { bytesPerToken } = model.ratio;
  const tokens = end.promptTokens ?? lease.promptTokens;
  const cached = end.cachedTokens ?? Math.min(flight.claimedBytes / bytesPerToken, tokens);
  if (end.promptTokens !== null) model.ratio.observe(prompt.bytes, end.promptTokens);
  // Without a stream, the first byte comes with the end.
  if (flight.ttftMs !== null && lease.request.stream) {
    const { wasIdle, wasCold, ttftMs } = flight;
    if (wasCold)
      model.loadTime.observe(ttftMs - (1000 * (tokens - cached)) / engine.speed.tokensPerS);
    else if (wasIdle) engine.speed.observe(tokens - cached, ttftMs);
  }
  if (end.promptTokens === null || end.cachedTokens === null || end.promptTokens === 0) return;
  const cachedBytes = (end.cachedTokens / end.promptTokens) * prompt.bytes;
  memory.judge(lease, { claimedBytes: flight.claimedBytes, cachedBytes, bytes: prompt.bytes });
}
