/** The requests that run, for what is due after some time: no request has a timer of its own. */

import { Sweep } from "../../util/flow/sweep.ts";
import type { Admit } from "../record/admission.ts";
import type { RecordingOptions } from "../record/recording.ts";
import type { BodyLimits } from "../request/body.ts";
import type { Acquire } from "../request/lease.ts";
import type { AttemptOptions } from "./engine-request.ts";
import type { RetryOptions } from "./retry.ts";

/** How old a request is before its client's connection is watched: most are over by then. */
export const YOUNG_MS = 5;
/** How often limits of time are looked at, as a share of the shortest of them. */
const SWEEP_SHARE = 0.2;
const MAX_SWEEP_MS = 1000;

export interface Timed {
  /** Called while it is young, with `performance.now()`. */
  checkYoung(now: number): void;
  /** Called now and then when it is no longer. */
  check(now: number): void;
}

/** What a request needs that is passed on, to an engine or a service. */
export interface HandlingOptions extends AttemptOptions, RecordingOptions, RetryOptions {
  acquire: Acquire;
  /** Asked once for each request that could be read, before it asks for a replica. */
  admit: Admit;
  body: BodyLimits;
  /** Silence before the engine's first data after which a stream's client gets a comment. */
  firstKeepAliveMs: number;
}

export class Handlings {
  readonly #young = new Sweep<Timed>(YOUNG_MS, (one, now) => one.checkYoung(now));
  readonly #old: Sweep<Timed>;

  constructor(options: HandlingOptions) {
    const { keepAliveMs, slowClientMs, firstKeepAliveMs, totalTimeoutMs } = options;
    const limits = [keepAliveMs, slowClientMs, firstKeepAliveMs];
    const shortest = Math.min(...limits, totalTimeoutMs ?? Number.POSITIVE_INFINITY);
    const everyMs = Math.max(YOUNG_MS, Math.min(MAX_SWEEP_MS, shortest * SWEEP_SHARE));
    this.#old = new Sweep(everyMs, (one, now) => one.check(now));
  }

  add(one: Timed): void {
    this.#young.add(one);
  }

  /** It is young no longer. */
  age(one: Timed): void {
    this.#young.delete(one);
    this.#old.add(one);
  }

  delete(one: Timed): void {
    this.#young.delete(one);
    this.#old.delete(one);
  }
}
