/** Picks the replica for a request, and learns from how the request fares there. */

import { createPrefillSpeed } from "./learning.ts";
import {
  pickRandom,
  pickSticky,
  pickTwo,
  type Policy,
  policyFinder,
  ROUTE_SETTINGS,
  type RouteSettings,
} from "./policies.ts";
import {
  createPrefixIndex,
  PREFIX_INDEX_DEFAULTS,
  type PrefixIndexOptions,
} from "./prefix-index.ts";
import { type Affinity, createRoutingMemory } from "./memory.ts";
import { explainPlain, explainScores, type Scored, scoreOf, type ScoreInput } from "./score.ts";
import type { Engine, Lease, Replica } from "../state/state.ts";
import type { LeaseEnd, ReplicaRequest } from "../../protocol/replica-request.ts";

/** A replica, and what the request is reckoned to cost there. */
export interface Choice {
  replica: Replica;
  /** Tokens of the prompt, and those of them that its cache is not reckoned to hold. */
  promptTokens: number;
  missTokens: number;
  /** Why this one, in a line for a header; null where nobody wants to know. */
  explanation: string | null;
}

interface At {
  now: number;
  random: () => number;
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

export interface RouterOptions extends Partial<RouteSettings> {
  index?: Partial<PrefixIndexOptions>;
  /** Requests that the engine has and that this head did not send. */
  foreignLoad?: (engine: Engine, now: number) => number;
  /** Up to so many candidates are all scored; of more, those that hold a part of the prompt and */
  maxScored?: number;
  /** so many others at random. */
  sampled?: number;
}

const MAX_SCORED = 64;
const SAMPLED = 32;
/** Scores this close are the same: a fixed order among them would herd. */
const TIE = 1e-9;

/** What was found out about a replica when it was picked. */
interface Picked {
  replica: Replica;
  /** Of the prompt, what the replica is reckoned to hold. */
  claimedBytes: number;
  /** Null: nobody looked. */
  affinity: keyof Affinity | null;
  explanation: string | null;
}

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
  const { tuning } = settings;
  const foreignLoad = options.foreignLoad ?? (() => 0);
  const maxScored = options.maxScored ?? MAX_SCORED;
  const sampled = options.sampled ?? SAMPLED;
  const policyOf = policyFinder(settings);
  const index = createPrefixIndex(options.index);
  const memory = createRoutingMemory(options.index?.maxAgeMs ?? PREFIX_INDEX_DEFAULTS.maxAgeMs);
  const unknownSpeed = createPrefillSpeed();
  const flights = new Map<number, Flight>();
  /** Of the last choice, until it is sent. */
  let chosen: Flight | null = null;

  /** What is left of the loading where it has begun: the next requests go there too. */
  const loadSeconds = ({ engine, card }: Replica, now: number) => {
    if (card.loaded !== false) return 0;
    const { seconds } = memory.model(card.id).loadTime;
    const since = memory.engine(engine.key)?.loading.get(card.id);
    return since === undefined ? seconds : Math.max(0, seconds - (now - since) / 1000);
  };

  /** Those that hold a part of the prompt, and some others: enough to choose well from. */
  const thinOut = (
    candidates: readonly Replica[],
    { longest, random }: { longest: number; random: () => number },
  ): readonly Replica[] => {
    if (candidates.length <= maxScored) return candidates;
    const few = new Set<Replica>();
    if (longest > 0) {
      for (const replica of candidates) {
        if (index.bytesOf(memory.trustedHolderOf(replica)) > 0) few.add(replica);
      }
    }
    for (let i = 0; i < sampled; i += 1) {
      const other = pickRandom(candidates, random);
      if (other) few.add(other);
    }
    return [...few];
  };

  const pickByScore = (
    candidates: readonly Replica[],
    request: ReplicaRequest,
    { now, random, policy }: At & { policy: Policy },
  ): Picked | null => {
    const { prompt, explain } = request;
    const { bytesPerToken } = memory.model(candidates[0]?.card.id ?? "").ratio;
    const promptBytes = prompt?.bytes ?? 0;
    const looks = policy === "auto" && prompt !== null && prompt.ends.length > 0;
    const longest = looks ? index.lookup(prompt, now) : 0;
    const few = thinOut(candidates, { longest, random });
    const heldBy = (replica: Replica) =>
      longest === 0 ? 0 : Math.min(index.bytesOf(memory.trustedHolderOf(replica)), promptBytes);
    let most = 0;
    if (longest > 0) for (const replica of few) most = Math.max(most, heldBy(replica));
    const scored: Scored[] = [];
    let best: Replica | null = null;
    let bestScore = Number.POSITIVE_INFINITY;
    let ties = 0;
    for (const replica of few) {
      const { engine } = replica;
      const input: ScoreInput = {
        pendingTokens: engine.pendingTokens,
        active: engine.inFlight + foreignLoad(engine, now),
        tokensPerS: (memory.engine(engine.key)?.speed ?? unknownSpeed).tokensPerS,
        promptTokens: promptBytes / bytesPerToken,
        hitTokens: heldBy(replica) / bytesPerToken,
        mostHitTokens: most / bytesPerToken,
        loadS: loadSeconds(replica, now),
      };
      if (explain) scored.push({ replica, input });
      const score = scoreOf(input, tuning);
      if (score < bestScore - TIE) {
        best = replica;
        bestScore = score;
        ties = 1;
      } else if (score <= bestScore + TIE) {
        ties += 1;
        if (random() * ties < 1) best = replica;
      }
    }
    if (best === null) return null;
    const claimedBytes = heldBy(best);
    const affinity = most === 0 ? "miss" : claimedBytes === most ? "hit" : "overridden";
    const explanation = explain ? explainScores(policy, best, { scored, tuning }) : null;
    return { replica: best, claimedBytes, affinity: looks ? affinity : null, explanation };
  };

  const pick = (candidates: readonly Replica[], request: ReplicaRequest, at: At): Picked | null => {
    const model = candidates[0]?.card.id ?? "";
    const policy = policyOf(model);
    const { now, random } = at;
    const plain = (replica: Replica | null): Picked | null =>
      replica && {
        replica,
        claimedBytes: 0,
        affinity: null,
        explanation: request.explain ? explainPlain(policy, replica, candidates.length) : null,
      };
    switch (policy) {
      case "random":
        return plain(pickRandom(candidates, at.random));
      case "round-robin":
        return plain(memory.model(model).turns.next(candidates));
      case "power-of-two":
        return pickByScore(pickTwo(candidates, at.random), request, { now, random, policy });
      case "sticky":
        if (request.session !== null) return plain(pickSticky(candidates, request.session));
        return pickByScore(candidates, request, { now, random, policy });
      case "auto":
      case "least-load":
        return pickByScore(candidates, request, { now, random, policy });
    }
  };

  /** What the engine said about a prompt, against what it was reckoned to be. */
  const learn = (lease: Lease, flight: Flight, end: LeaseEnd & { now: number }) => {
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
  };

  return {
    choose(candidates, request, at) {
      if (candidates.length === 0) return null;
      const picked = pick(candidates, request, at);
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
      learn(lease, flight, end);
    },
    usesPrefixes: (model) => policyOf(model) === "auto",
    affinity: memory.affinity,
  };
}
