/** Carries one client request to an engine and its answer back; tries elsewhere while it may. */

import { LlmnodeError } from "../protocol/errors.ts";
import type { ReplicaRequest } from "../protocol/replica-request.ts";
import type { Trace } from "../util/traceparent.ts";
import type { AttemptFailure } from "./answer/failure.ts";
import { type Abandon, ABANDON_LIMITS, createAbandon } from "./attempt/abandon.ts";
import { Attempt } from "./attempt/attempt.ts";
import {
  ATTEMPT_DEFAULTS,
  type BegunAnswer,
  type EngineRequest,
  type Resumable,
} from "./attempt/engine-request.ts";
import { Handling } from "./attempt/handling.ts";
import { type HandlingOptions, Handlings } from "./attempt/handlings.ts";
import { replicaRequestOf } from "./attempt/replica-request.ts";
import { RETRY_DEFAULTS } from "./attempt/retry.ts";
import { type Admission, type Admit, factsOf, NO_ADMISSION } from "./record/admission.ts";
import type { AttemptRecord, ResumeResult } from "./record/record.ts";
import { type LiveRequest, MAX_LOGGED_BYTES, startAttempt } from "./record/recording.ts";
import { aliasError, type Aliases, type ModelTarget, targetAt } from "./request/aliases.ts";
import { type ProxyCall, type RequestContext, requireAllowed } from "./request/context.ts";
import type { Lease } from "./request/lease.ts";
import {
  noResponse,
  type Origin,
  type Origins,
  originOf,
  RESPONSES_PATH,
  responseIn,
  responseMade,
} from "./request/origin.ts";
import { emptyPayload, type Payload } from "./request/payload.ts";
import { readPayload } from "./request/read-payload.ts";
import type { Route } from "./request/routes.ts";
import {
  type BeginResumable,
  createResumes,
  RESUME_DEFAULTS,
  type ResumeSettings,
} from "./resume/resume.ts";

export interface ProxyOptions extends HandlingOptions {
  /** Whether it matters what the prompts for a model begin with; false spares reading them. */
  prefixMatters: (model: string) => boolean;
  aliases: Aliases;
  origins: Origins;
  resume: ResumeSettings;
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
export type Proxy = (request: Request, call: ProxyCall, route: Route) => Promise<Response>;

export function createProxy(options: ProxyOptions): Proxy {
  const shared: Shared = {
    options,
    handlings: new Handlings(options),
    refusesUsage: new Set(),
    abandon: createAbandon(ABANDON_LIMITS),
    resumes: createResumes(options.resume, options),
  };
  return (sent, call, route) => new EngineHandling(shared, { sent, call, route }).start();
}

/** What all requests of a proxy have in common. */
interface Shared {
  options: ProxyOptions;
  handlings: Handlings;
  refusesUsage: Set<string>;
  abandon: Abandon;
  resumes: BeginResumable;
}

/** Runs of engines that have long ended may stay in the set: it is cleared when it grows. */
const MAX_REFUSING = 1000;

const NOTHING_READ = emptyPayload();

class EngineHandling extends Handling implements EngineRequest, RequestContext {
  readonly trace: Trace | null;
  payload: Payload = NOTHING_READ;
  readonly #shared: Shared;
  /** What the model that was asked for stands for; null: for itself. */
  targets: readonly ModelTarget[] | null = null;
  /** The response that the request is about or goes on from: only the engine that made it has it. */
  #responseId: string | null = null;
  #origin: Origin | null = null;
  #hasAsked = false;
  /** What was asked for last. */
  #wanted: ReplicaRequest | null = null;

  constructor(shared: Shared, arrived: { sent: Request; call: ProxyCall; route: Route }) {
    super(shared.options, shared.handlings, arrived);
    this.#shared = shared;
    this.trace = this.record.trace;
  }

  get path(): string {
    return this.call.path;
  }

  get requestId(): string {
    return this.call.requestId;
  }

  get refusesUsage(): Set<string> {
    return this.#shared.refusesUsage;
  }

  get abandon(): Abandon {
    return this.#shared.abandon;
  }

  targetAt(lease: Lease): ModelTarget | null {
    return targetAt(this.targets, lease.model);
  }

  resumable(here: BegunAnswer): Resumable | null {
    const { record, call } = this;
    if (this.#wanted === null) return null;
    return this.#shared.resumes({
      ...here,
      wanted: this.#wanted,
      startAttempt: (lease) => this.#startAttempt(lease),
      onResult(result: ResumeResult) {
        record.resume = result;
      },
      onBug: (error) => void call.onBug(error),
    });
  }

  onFirstData(lease: Lease, first: Uint8Array): void {
    const { record, route } = this;
    const now = this.now();
    const id = route.path === RESPONSES_PATH ? responseMade(first) : null;
    if (id !== null) this.#shared.options.origins.note(id, lease);
    record.firstByteMs = now - record.startedAt;
    const attemptRecord = record.attempts.at(-1);
    if (attemptRecord) attemptRecord.firstByteAt = now;
  }

  protected read(): Promise<Admission> {
    return readPayload(this.sent, this.route, this.options.body).then((read) => this.#take(read));
  }

  #take(payload: Payload): Admission {
    const { options, refusesUsage } = this.#shared;
    const { record, call } = this;
    this.payload = payload;
    this.targets = payload.model === null ? null : options.aliases(payload.model);
    record.model = payload.model;
    record.alias = this.targets !== null;
    record.modelKnown = record.alias;
    record.stream = payload.stream;
    record.bytesIn = payload.length;
    record.bodyMs = payload.waitedMs;
    if (options.logBodies) record.bodies = { request: beginningOf(payload), answer: "" };
    if (refusesUsage.size > MAX_REFUSING) refusesUsage.clear();
    return options.admit(call.caller, factsOf(this, options));
  }

  protected wanted(): ReplicaRequest {
    const { options } = this.#shared;
    const { record, call } = this;
    if (!this.#hasAsked) {
      this.#hasAsked = true;
      this.#responseId = this.#responseIdOf();
      this.#origin = this.#responseId === null ? null : originOf(options.origins, this.#responseId);
      record.model ??= this.#origin?.model ?? null;
      requireAllowed(call.caller, record.model);
    }
    this.#wanted = replicaRequestOf(this, {
      retry: this.retry,
      origin: this.#origin,
      prefixMatters: options.prefixMatters,
    });
    return this.#wanted;
  }

  protected begun(lease: Lease, record: AttemptRecord): Attempt {
    const attempt = new Attempt(this, { lease, record });
    attempt.send();
    return attempt;
  }

  protected isRepeatable(_failure: AttemptFailure): boolean {
    return this.payload.repeatable;
  }

  protected refusalOf(error: unknown): unknown {
    if (this.#responseId !== null && isNowhere(error)) return noResponse(this.#responseId);
    return this.record.alias ? aliasError(error, this.record.model) : error;
  }

  protected free(): void {
    this.payload.free();
  }

  protected errorEvent(body: string): string | null {
    const { dialect } = this.route;
    if (!this.payload.stream || dialect === "ollama") return null;
    const isNamed = dialect === "anthropic" || dialect === "responses";
    return `${isNamed ? "event: error\n" : ""}data: ${body}\n\n`;
  }

  #startAttempt(lease: Lease): AttemptRecord {
    const attemptRecord = startAttempt(this.options, { lease, trace: this.trace });
    this.record.attempts.push(attemptRecord);
    return attemptRecord;
  }

  #responseIdOf(): string | null {
    const { route, path } = this;
    if (route.path === RESPONSES_PATH) return this.payload.previousResponse;
    return route.path.startsWith(RESPONSES_PATH) ? responseIn(path) : null;
  }
}

/** Whether no engine could ever answer. */
function isNowhere(error: unknown): boolean {
  const codes: readonly string[] = ["not_found", "model_not_found", "unknown_url"];
  return error instanceof LlmnodeError && codes.includes(error.code);
}

/** A form that is passed on as it comes is not held, and so not told. */
function beginningOf(payload: Payload): string {
  if (!payload.repeatable) return "";
  const content = payload.content({ askUsage: false });
  return content instanceof Uint8Array ? decoder.decode(content.subarray(0, MAX_LOGGED_BYTES)) : "";
}

const decoder = new TextDecoder();
