/** Picks one of several replicas by a model's policy, from what is known of engines and their caches. */

import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import type { Engine, Replica } from "../state/state.ts";
import type { PrefillSpeed } from "./learning.ts";
import type { Affinity, RoutingMemory } from "./memory.ts";
import { pickRandom, pickSticky, pickTwo, type Policy } from "./policies.ts";
import type { PrefixIndex } from "./prefix-index.ts";
import {
  explainPlain,
  explainScores,
  type Scored,
  type ScoreInput,
  scoreOf,
  type ScoreTuning,
} from "./score.ts";

export interface At {
  now: number;
  random: () => number;
}

/** What a choice goes by. */
export interface Knowledge {
  index: PrefixIndex;
  memory: RoutingMemory;
  tuning: ScoreTuning;
  /** What is assumed of an engine that nothing is known of. */
  unknownSpeed: PrefillSpeed;
  /** Requests that the engine has and that this head did not send. */
  foreignLoad: (engine: Engine, now: number) => number;
  /** Up to so many candidates are all scored; of more, those that hold a part of the prompt and */
  maxScored: number;
  /** so many others at random. */
  sampled: number;
}

/** What was found out about a replica when it was picked. */
export interface Picked {
  replica: Replica;
  /** Of the prompt, what the replica is reckoned to hold. */
  claimedBytes: number;
  /** Null: the caches were not consulted. */
  affinity: keyof Affinity | null;
  explanation: string | null;
}

/** What is to be decided, and by which policy. */
interface Question {
  request: ReplicaRequest;
  policy: Policy;
  at: At;
}

/** Scores this close are the same: a fixed order among them would herd. */
const TIE = 1e-9;

export function pick(
  known: Knowledge,
  candidates: readonly Replica[],
  question: Question,
): Picked | null {
  const { request, policy, at } = question;
  const replica = pickPlainly(known, candidates, question);
  if (replica === undefined) {
    const among = policy === "power-of-two" ? pickTwo(candidates, at.random) : candidates;
    return pickByScore(known, among, question);
  }
  if (replica === null) return null;
  const explanation = request.explain ? explainPlain(policy, replica, candidates.length) : null;
  return { replica, claimedBytes: 0, affinity: null, explanation };
}

/** Without a look at what they have to do; undefined: that is what the policy goes by. */
function pickPlainly(
  known: Knowledge,
  candidates: readonly Replica[],
  { request, policy, at }: Question,
): Replica | null | undefined {
  switch (policy) {
    case "random":
      return pickRandom(candidates, at.random);
    case "round-robin":
      return known.memory.model(candidates[0]?.card.id ?? "").turns.next(candidates);
    case "sticky":
      return request.session === null ? undefined : pickSticky(candidates, request.session);
    case "power-of-two":
    case "auto":
    case "least-load":
      return undefined;
  }
}

function pickByScore(
  known: Knowledge,
  candidates: readonly Replica[],
  { request, policy, at }: Question,
): Picked | null {
  const { index, memory, tuning } = known;
  const { now, random } = at;
  const { prompt, explain } = request;
  const { bytesPerToken } = memory.model(candidates[0]?.card.id ?? "").ratio;
  const promptBytes = prompt?.bytes ?? 0;
  const usesCaches = policy === "auto" && prompt !== null && prompt.ends.length > 0;
  const longest = usesCaches ? index.lookup(prompt, now) : 0;
  const few = thinOut(known, candidates, { longest, random });
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
      active: engine.inFlight + known.foreignLoad(engine, now),
      tokensPerS: (memory.engine(engine.key)?.speed ?? known.unknownSpeed).tokensPerS,
      promptTokens: promptBytes / bytesPerToken,
      hitTokens: heldBy(replica) / bytesPerToken,
      mostHitTokens: most / bytesPerToken,
      loadS: loadSeconds(memory, replica, now),
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
  return { replica: best, claimedBytes, affinity: usesCaches ? affinity : null, explanation };
}

/** Those that hold a part of the prompt, and some others: enough to choose well from. */
function thinOut(
  { index, memory, maxScored, sampled }: Knowledge,
  candidates: readonly Replica[],
  { longest, random }: { longest: number; random: () => number },
): readonly Replica[] {
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
}

/** What is left of the loading where it has begun: the next requests go there too. */
function loadSeconds(memory: RoutingMemory, { engine, card }: Replica, now: number): number {
  if (card.loaded !== false) return 0;
  const { seconds } = memory.model(card.id).loadTime;
  const since = memory.engine(engine.key)?.loading.get(card.id);
  return since === undefined ? seconds : Math.max(0, seconds - (now - since) / 1000);
}
