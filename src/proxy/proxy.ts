/** Carries one client request to an engine and its answer back; tries elsewhere while it may. */

import { LlmnodeError } from "../protocol/errors.ts";
import { type Abandon, ABANDON_LIMITS, createAbandon } from "./attempt/abandon.ts";
import type { Admission, Admit } from "./record/admission.ts";
import { factsOf, NO_ADMISSION, withAdmission } from "./record/admission.ts";
import { aliasError, type Aliases, targetAt } from "./request/aliases.ts";
import { ATTEMPT_DEFAULTS, type AttemptJob, attempt } from "./attempt/attempt.ts";
import { cancellable, clientGone, goneBecause } from "./request/client-request.ts";
import type { AttemptFailure } from "./answer/failure.ts";
import type { ReplicaRequest } from "../protocol/replica-request.ts";
import type { Lease } from "./request/lease.ts";
import {
  noResponse,
  type Origins,
  originOf,
  RESPONSES_PATH,
  responseIn,
  responseMade,
} from "./request/origin.ts";
import { type Payload, readPayload } from "./request/payload.ts";
import type { AttemptRecord, RequestRecord } from "./record/record.ts";
import {
  type End,
  finisher,
  type LiveRequest,
  MAX_LOGGED_BYTES,
  refusal,
  startAttempt,
  startRecord,
  withInfo,
} from "./record/recording.ts";
import {
  type BeginResumable,
  createResumes,
  RESUME_DEFAULTS,
  type ResumeSettings,
} from "./resume/resume.ts";
import { withKeepAlive } from "./answer/silence.ts";
import { createRetryState, RETRY_DEFAULTS } from "./attempt/retry.ts";
import { replicaRequestOf } from "./attempt/replica-request.ts";
import type { ServiceOptions } from "./service/service.ts";
import { type ProxyCall, type RequestContext, requireAllowed } from "./request/context.ts";

export interface ProxyOptions extends ServiceOptions {
  /** Whether it matters what the prompts for a model begin with; false spares reading them. */
  prefixMatters: (model: string) => boolean;
  aliases: Aliases;
  origins: Origins;
  resume: ResumeSettings;
  /** Silence before the engine's first data after which a stream's client gets a comment. */
  firstKeepAliveMs: number;
  /** Whether records carry what was asked and answered. */
  logBodies: boolean;
}

export const PROXY_DEFAULTS = {
  ...RETRY_DEFAULTS,
  ...ATTEMPT_DEFAULTS,
  resume: RESUME_DEFAULTS,
  aliases: (() => null) as Aliases,
  prefixMatters: (_model: string) => true,
  firstKeepAliveMs: 50_000,
  infoHeaders: true,
  logBodies: false,
  traced: false,
  onLive: (_live: LiveRequest) => {},
  admit: (() => NO_ADMISSION) as Admit,
};

/** Never throws: every failure is an answer in the route's dialect. */
export type Proxy = (request: Request, call: ProxyCall) => Promise<Response>;

export function createProxy(options: ProxyOptions): Proxy {
  const refusesUsage = new Set<string>();
  const abandon = createAbandon(ABANDON_LIMITS);
  const resumes = createResumes(options.resume, options);
  return async (sent, call) => {
    const request = cancellable(sent);
    const record = startRecord(options, sent, call);
    const live: LiveRequest = { record, watch: null, cancel: request.cancel };
    options.onLive(live);
    let admission: Admission = NO_ADMISSION;
    const onEnd = () => {
      admission.end(record);
      call.onEnd();
    };
    const end = finisher(options, { record, onEnd });
    let payload: Payload;
    try {
      payload = await readPayload(sent, call.route, options.body);
    } catch (error) {
      return refusal(error, { call, end });
    }
    const targets = payload.model === null ? null : options.aliases(payload.model);
    record.model = payload.model;
    record.alias = targets !== null;
    record.modelKnown = record.alias;
    record.stream = payload.stream;
    record.bytesIn = payload.length;
    record.bodyMs = payload.waitedMs;
    if (options.logBodies) record.bodies = { request: beginningOf(payload), answer: "" };
    // Runs of engines that have long ended may stay in the set: it is cleared when it grows.
    if (refusesUsage.size > 1000) refusesUsage.clear();
    const job: Job = {
      request,
      call,
      payload,
      targets,
      record,
      live,
      end,
      refusesUsage,
      abandon,
      resumes,
    };
    admission = options.admit(call.caller, factsOf(job, options));
    const answering = answered(options, job, admission);
    const sse = payload.stream && call.route.dialect !== "ollama";
    const response = sse
      ? await withKeepAlive(answering, { ...options, dialect: call.route.dialect })
      : await answering;
    return withAdmission(response, admission);
  };
}

/** Never rejects. */
async function answered(options: ProxyOptions, job: Job, admission: Admission) {
  const { signal } = job.request;
  try {
    if (admission.refusal !== null) throw admission.refusal;
    return await run(options, job);
  } catch (error) {
    return refusal(signal.aborted ? goneBecause(signal) : error, job);
  } finally {
    // By now the answer has begun or there is none: nothing will be sent again.
    job.payload.free();
  }
}

interface Job extends RequestContext {
  record: RequestRecord;
  live: LiveRequest;
  end: End;
  refusesUsage: Set<string>;
  abandon: Abandon;
  resumes: BeginResumable;
}

async function run(options: ProxyOptions, job: Job): Promise<Response> {
  const { request, payload, record } = job;
  const client = request.signal;
  const responseId = responseIdOf(job);
  const origin = responseId === null ? null : originOf(options.origins, responseId);
  record.model ??= origin?.model ?? null;
  requireAllowed(job.call.caller, record.model);
  using retry = createRetryState(options, client);
  for (;;) {
    if (client.aborted) throw clientGone();
    let lease: Lease;
    const wanted = replicaRequestOf(job, { retry, origin, prefixMatters: options.prefixMatters });
    record.promptBytes = wanted.prompt?.bytes ?? null;
    const askedAt = options.now();
    try {
      lease = await options.acquire(wanted, retry.signal());
      record.modelKnown = true;
    } catch (error) {
      if (responseId !== null && isNowhere(error)) throw noResponse(responseId);
      const cause = record.alias ? aliasError(error, record.model) : error;
      return finish(options, job, retry.refused(cause));
    } finally {
      record.queueMs += options.now() - askedAt;
    }
    const attemptRecord = beginAttempt(options, record, lease);
    const result = await attempt(options, attemptJob(options, job, { lease, wanted }), {
      lease,
      record: attemptRecord,
    });
    if (result.kind === "answer") return withInfo(options, record, result.response);
    if (result.kind === "moved") {
      retry.moved(lease);
      continue;
    }
    const { failure } = result;
    const shouldRetry = await retry.shouldRetry({ lease, failure, repeatable: payload.repeatable });
    if (!shouldRetry) return finish(options, job, retry.failure());
  }
}

/** The response that the request is about or goes on from: only the engine that made it has it. */
function responseIdOf({ call, payload }: Job): string | null {
  const { path } = call.route;
  if (path === RESPONSES_PATH) return payload.previousResponse;
  return path.startsWith(RESPONSES_PATH) ? responseIn(call.path) : null;
}

/** Whether no engine could ever answer. */
function isNowhere(error: unknown): boolean {
  const codes: readonly string[] = ["not_found", "model_not_found", "unknown_url"];
  return error instanceof LlmnodeError && codes.includes(error.code);
}

function beginAttempt(options: ProxyOptions, record: RequestRecord, lease: Lease): AttemptRecord {
  const attemptRecord = startAttempt(options, { lease, trace: record.trace });
  record.attempts.push(attemptRecord);
  return attemptRecord;
}

function attemptJob(
  options: ProxyOptions,
  job: Job,
  { lease, wanted }: { lease: Lease; wanted: ReplicaRequest },
): AttemptJob {
  const { record, end, call } = job;
  return {
    request: job.request,
    payload: job.payload,
    refusesUsage: job.refusesUsage,
    abandon: job.abandon,
    target: targetAt(job.targets, lease.model),
    route: call.route,
    path: call.path,
    requestId: call.requestId,
    startedAt: record.startedAt,
    now: options.now,
    trace: record.trace,
    resume: (here) =>
      job.resumes({
        ...here,
        request: job.request,
        route: call.route.path,
        path: call.path,
        wanted,
        startAttempt: (next) => beginAttempt(options, record, next),
        onResult(result) {
          record.resume = result;
        },
        onBug: call.onBug,
      }),
    onFirstData(first) {
      const now = options.now();
      const id = call.route.path === RESPONSES_PATH ? responseMade(first) : null;
      if (id !== null) options.origins.note(id, lease);
      record.firstByteMs = now - record.startedAt;
      const attemptRecord = record.attempts.at(-1);
      if (attemptRecord) attemptRecord.firstByteAt = now;
    },
    onWatch(watch) {
      job.live.watch = watch;
    },
    onEnd(outcome, watch) {
      const left = outcome === "client_gone" || outcome === "slow_client";
      end(left ? 499 : 200, outcome === "ok" ? null : outcome, watch);
    },
  };
}

function finish(options: ProxyOptions, job: Job, failure: AttemptFailure): Response {
  const answer = failure.respond();
  if (answer instanceof LlmnodeError) return withInfo(options, job.record, refusal(answer, job));
  job.end(answer.status, failure.message);
  return withInfo(options, job.record, answer);
}

/** A form that is passed on as it comes is not held, and so not told. */
function beginningOf(payload: Payload): string {
  if (!payload.repeatable) return "";
  const content = payload.content({ askUsage: false });
  return content instanceof Uint8Array ? decoder.decode(content.subarray(0, MAX_LOGGED_BYTES)) : "";
}

const decoder = new TextDecoder();
