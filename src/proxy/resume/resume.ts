/** Lets a stream whose engine broke off go on at another replica of its model, once. */

import type { GoingOn } from "../answer/relay.ts";
import type { BegunAnswer, Resumable } from "../attempt/engine-request.ts";
import { type AttemptScope, tooLate } from "../attempt/scope.ts";
import type { ResumeResult } from "../record/record.ts";
import { type BodyBudget, createBodyBudget } from "../request/body.ts";
import { Cancellation, clientGone, FirstOf } from "../request/client-request.ts";
import type { Acquire } from "../request/lease.ts";
import { type AnswerSoFar, failureAt, readAnswer } from "./answer.ts";
import { type ResumableBody, readResumable, resumeKindOf } from "./body.ts";
import { keep, type Kept } from "./memory.ts";
import { RESUME_KINDS, type ResumeAttempts, type Search, search } from "./search.ts";
import { closingFrames, whole } from "./splice.ts";

export const RESUME_DEFAULTS = {
  /** `off`: no stream is ever continued. */
  mode: "auto" as "auto" | "off",
  /** How large the body of a request may be that is kept for it. */
  maxBodyBytes: 1024 * 1024,
  /** How much of an answer is kept. */
  maxAnswerBytes: 1024 * 1024,
  /** All that is kept for all requests at once. */
  maxHeldBytes: 256 * 1024 * 1024,
  /** How long after a break the first data of another replica is waited for. */
  timeoutMs: 30_000,
  /** Replicas that are asked; all but the last one had no room, or could not be reached. */
  maxTries: 3,
};
export type ResumeSettings = typeof RESUME_DEFAULTS;

/** An answer that begins, with the request that it is for. */
export interface ResumeStart extends BegunAnswer, ResumeAttempts {
  onResult: (result: ResumeResult) => void;
  /** Takes what should not have happened. */
  onBug: (error: unknown) => void;
}

/** Null for a request that is not to be continued, as far as that is cheap to see. */
export type BeginResumable = (start: ResumeStart) => Resumable | null;

const OFF_HEADER = "x-llmnode-resume";

/** `acquire` gives the replicas; `now` is in milliseconds. */
export function createResumes(
  settings: ResumeSettings,
  { acquire, now }: { acquire: Acquire; now: () => number },
): BeginResumable {
  const budget = createBodyBudget(settings.maxHeldBytes);
  const refusing = new Set<string>();
  return (start) => {
    const { sent, scope, request: of } = start;
    if (settings.mode === "off" || resumeKindOf(of.route.path) === null) return null;
    if (!RESUME_KINDS.includes(scope.lease.engineKind)) return null;
    if (of.request.headers.get(OFF_HEADER) === "off") return null;
    if (!(sent instanceof Uint8Array) || sent.length > settings.maxBodyBytes) return null;
    return resumable({ settings, acquire, now, budget, refusing }, start, sent);
  };
}

interface Shared extends Pick<Search, "acquire" | "now" | "refusing"> {
  settings: ResumeSettings;
  budget: BodyBudget;
}

function resumable(shared: Shared, start: ResumeStart, sent: Uint8Array): Resumable {
  const kept: Kept = keep(sent, { ...shared.settings, budget: shared.budget });
  const client = start.request.request.signal;
  const stopped = new Cancellation();
  let source = start.scope;
  let trying: AttemptScope | null = null;
  let hasFailed = false;

  const goOn = async (): Promise<GoingOn | null> => {
    const found = readKept(start, kept);
    kept.free();
    // A request that has taken longer than it may is over wherever it is.
    if (source.isLate || stopped.aborted || client.aborted) return null;
    if (found === null) {
      start.onResult("not_possible");
      return null;
    }
    const { request, answer } = found;
    if (answer.isFinished && (answer.hasUsage || !request.wantsUsage)) {
      start.onResult("resumed");
      return whole(closingFrames(request, { answer, produced: 0 }, { prompt: 0 }));
    }
    const broken = source;
    broken.done(hasFailed ? "engine_error" : "broken");
    const limit = new Cancellation();
    const timer = setTimeout(() => limit.abort(tooLate()), shared.settings.timeoutMs);
    using signal = new FirstOf([stopped, client, limit]);
    // The engines that a request has ended are counted before the next one gets it.
    await broken.lease.died();
    const next = await search({
      ...shared,
      maxTries: shared.settings.maxTries,
      attempts: start,
      client,
      broken: broken.lease,
      request,
      answer,
      signal,
      onScope(scope) {
        trying = scope;
      },
    }).finally(() => clearTimeout(timer));
    if ("result" in next) {
      start.onResult(next.result);
      return null;
    }
    broken.abort();
    source = next.scope;
    trying = null;
    start.onResult("resumed");
    return next.answer;
  };

  return {
    scope: () => source,
    late() {
      source.late();
      trying?.late();
    },
    keep: kept.add,
    failureAt(chunk) {
      const at = failureAt(chunk);
      hasFailed = at !== -1;
      return at;
    },
    goOn: () =>
      goOn().catch((error: unknown) => {
        start.onBug(error);
        return null;
      }),
    stop() {
      kept.free();
      stopped.abort(clientGone());
      trying?.done("client_gone");
      trying?.abort();
      trying = null;
    },
  };
}

function readKept(
  { request: { route } }: ResumeStart,
  kept: Kept,
): { request: ResumableBody; answer: AnswerSoFar } | null {
  const kind = resumeKindOf(route.path);
  const held = kept.take();
  if (kind === null || held === null) return null;
  const request = readResumable(kind, held.sent);
  const answer = request && readAnswer(kind, held.answer);
  return answer ? { request, answer } : null;
}
