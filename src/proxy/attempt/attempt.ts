/** One try of a request on one replica, from its sending to the end of its answer. */

import { LlmnodeError } from "../../protocol/errors.ts";
import {
  type AnswerHead,
  type AnswerSink,
  fieldIn,
  type BodyContent,
} from "../../util/http/exchange.ts";
import { type AttemptFailure, refusesStreamOptions, statusFailure } from "../answer/failure.ts";
import { errorIn, FirstFrame } from "../answer/first-frame.ts";
import { Relay } from "../answer/relay.ts";
import { errorFrame } from "../record/error-answer.ts";
import { formatOf, type StreamFormat } from "../record/frames.ts";
import type { AttemptRecord } from "../record/record.ts";
import { createStreamWatch, type StreamWatch } from "../record/stream-watch.ts";
import { goneBecause } from "../request/client-request.ts";
import { answerHeaders } from "../request/headers.ts";
import type { Lease } from "../request/lease.ts";
import { nameFor } from "./abandon.ts";
import {
  type Attempted,
  type EngineRequest,
  type Resumable,
  engineRequest,
  readOn,
  scopeFor,
} from "./engine-request.ts";
import { type AttemptScope, type NoAnswer, tooLate } from "./scope.ts";

/** What is waited for. */
type Stage = "head" | "error" | "whole" | "first" | "relay" | "over";

export class Attempt implements AnswerSink {
  readonly #of: EngineRequest;
  readonly #scope: AttemptScope;
  /** What the engine knows the attempt by, where it is told one. */
  readonly #name: string | null;
  #stage: Stage = "head";
  #asksUsage: boolean;
  #sent: BodyContent = null;
  #head: AnswerHead = NO_HEAD;
  #format: StreamFormat | null = null;
  /** Of an error, or of an answer that is taken whole. */
  #held: Uint8Array[] = NOTHING_HELD;
  #heldBytes = 0;
  #first: FirstFrame | null = null;
  #relay: Relay | null = null;
  #resumable: Resumable | null = null;

  constructor(of: EngineRequest, { lease, record }: { lease: Lease; record: AttemptRecord }) {
    const { payload } = of;
    this.#of = of;
    this.#name = nameFor(lease, of.route, payload);
    this.#scope = scopeFor(of, { lease, record }, this.#name);
    this.#scope.sink = this;
    this.#asksUsage = payload.canAskUsage && !of.refusesUsage.has(lease.engineRun);
  }

  send(): void {
    const { payload } = this.#of;
    this.#stage = "head";
    const content = payload.contentInSlices({
      target: this.#of.targetAt(this.#scope.lease),
      askUsage: this.#asksUsage,
      name: this.#name,
    });
    // Only of a large body that is changed.
    if (content instanceof Promise) {
      content.then(
        (body) => this.#sendBody(body),
        (error: unknown) => this.fail(error),
      );
    } else this.#sendBody(content);
  }

  #sendBody(body: BodyContent): void {
    this.#sent = body;
    this.#scope.send(engineRequest(this.#of, this.#scope, { body }), this);
  }

  late(): void {
    (this.#resumable ?? this.#scope).late();
  }

  head(head: AnswerHead): void {
    const { wholeAnswerBytes } = this.#of.options;
    this.#head = head;
    this.#scope.record.status = head.status;
    this.#held = [];
    this.#heldBytes = 0;
    if (head.status < 200 || head.status > 299) {
      this.#stage = "error";
      return;
    }
    this.#format = formatOf(head);
    const length = fieldIn(head, "content-length");
    if (length !== null && Number(length) <= wholeAnswerBytes) this.#stage = "whole";
    else {
      this.#stage = "first";
      this.#first = new FirstFrame(this.#format);
    }
  }

  data(bytes: Uint8Array): void {
    switch (this.#stage) {
      case "relay":
        this.#relay?.data(bytes);
        break;
      case "first": {
        const first = this.#first?.add(bytes) ?? null;
        if (first !== null) this.#begin(first);
        break;
      }
      case "whole":
        this.#held.push(bytes);
        break;
      case "error":
        this.#held.push(bytes);
        this.#heldBytes += bytes.length;
        if (this.#heldBytes < this.#of.options.errorBodyBytes) return;
        // What is still to come of it is of no use.
        this.#scope.abort();
        this.#refused();
        break;
      case "head":
      case "over":
    }
  }

  end(): void {
    switch (this.#stage) {
      case "relay":
        this.#relay?.end();
        break;
      case "first": {
        const first = this.#first?.bytes ?? null;
        if (first !== null) {
          this.#begin(first);
          this.#relay?.end();
        } else if (this.#format === null) this.#whole();
        else this.fail(new Error("the stream ended before its first frame"));
        break;
      }
      case "whole":
        this.#whole();
        break;
      case "error":
        this.#refused();
        break;
      case "head":
      case "over":
    }
  }

  fail(error: unknown): void {
    if (this.#stage === "relay") return this.#relay?.fail(error);
    if (this.#stage !== "over") this.#noAnswer(this.#scope.failed(error));
  }

  #noAnswer(how: NoAnswer): void {
    this.#stage = "over";
    this.#of.onNoAnswer(this.#scope.lease, how);
  }

  /** The engine's answer is none for the client, or is not yet known to be one. */
  #refused(): void {
    const { route, options, refusesUsage } = this.#of;
    const body = Buffer.concat(this.#held).subarray(0, options.errorBodyBytes);
    const failure = statusFailure(this.#head, body, route.dialect);
    if (this.#asksUsage && !this.#scope.aborted && refusesStreamOptions(failure)) {
      refusesUsage.add(this.#scope.lease.engineRun);
      this.#asksUsage = false;
      return this.send();
    }
    this.#fails(failure);
  }

  #fails(failure: AttemptFailure): void {
    this.#scope.done(failure.outcome, { retryAfterMs: failure.retryAfterMs });
    this.#noAnswer({ kind: "failure", failure });
  }

  #whole(): void {
    const bytes = this.#held.length === 1 ? this.#held[0] : Buffer.concat(this.#held);
    const body = bytes as Uint8Array<ArrayBuffer>;
    if (this.#failsWith(body)) return;
    const { lease } = this.#scope;
    const watch = this.#watch(false);
    lease.started();
    this.#of.onFirstData(lease, body);
    // Most often the very bytes that came, which need no copy.
    const passed = watch.push(body);
    const rest = watch.flush();
    this.#stage = "over";
    this.#sent = null;
    this.#scope.done("ok", { usage: watch.facts().usage });
    this.#of.onEnd("ok", this.#head.status);
    this.#of.answer({
      status: this.#head.status,
      headers: answerHeaders(this.#head, { isStream: this.#format !== null }),
      body: passed === body && rest === null ? body : joined(passed, rest),
    });
  }

  /** Ends the attempt where the answer's first frame is an error. */
  #failsWith(first: Uint8Array): boolean {
    const { dialect } = this.#of.route;
    const format = this.#format;
    const failure = format === null ? null : errorIn(first, { format, dialect });
    if (!failure) return false;
    this.#scope.abort();
    this.#fails(failure);
    return true;
  }

  #begin(first: Uint8Array): void {
    if (this.#failsWith(first)) return;
    const of = this.#of;
    const format = this.#format;
    const own = this.#scope;
    const { lease } = own;
    const resumable =
      format === "sse" ? of.resumable({ sent: this.#sent, scope: own, request: of }) : null;
    this.#resumable = resumable;
    // Nothing is sent again from here: only who may go on elsewhere holds it.
    this.#sent = null;
    const scope = () => resumable?.scope() ?? own;
    const watch = this.#watch(resumable !== null);
    lease.started();
    of.onFirstData(lease, first);
    const headers = answerHeaders(this.#head, { isStream: format !== null });
    const relay = new Relay({
      client: of.begin(this.#head.status, headers),
      format,
      watch,
      keepAliveMs: of.options.keepAliveMs,
      slowClientMs: of.options.slowClientMs,
      continuation: resumable,
      breakFrame: () => errorFrame(breakReason(of, scope()), of.route.dialect),
      onProgress: () => scope().lease.progress(),
      onReading: (isReading) => readOn(scope(), isReading),
      onEnd: (end) => {
        const outcome = scope().outcomeOf(end);
        scope().done(outcome, { usage: watch.facts().usage });
        // What the engine still does for this request is of no use.
        if (end !== "ok") scope().abort();
        of.onEnd(outcome, this.#head.status);
      },
    });
    this.#stage = "relay";
    this.#relay = relay;
    of.relay = relay;
    relay.data(first);
  }

  #watch(wholeFrames: boolean): StreamWatch {
    const watch = createStreamWatch({
      format: this.#format,
      dropUsage: this.#asksUsage && this.#format === "sse",
      wholeFrames,
      tailBytes: this.#of.options.tailBytes,
    });
    this.#of.watch = watch;
    return watch;
  }
}

function joined(a: Uint8Array | null, b: Uint8Array | null): Uint8Array<ArrayBuffer> {
  return Buffer.concat([a, b].filter((part) => part !== null));
}

const NO_HEAD: AnswerHead = { status: 0, fields: [] };
const NOTHING_HELD: Uint8Array[] = [];

function breakReason({ request }: Attempted, scope: AttemptScope): LlmnodeError {
  if (request.signal.aborted) return goneBecause(request.signal);
  if (scope.isLate) return tooLate();
  return new LlmnodeError("upstream_broken", "The engine died before its answer was complete.");
}
