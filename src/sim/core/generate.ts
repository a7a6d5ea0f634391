/** Produces an answer token by token at its pace, keeps its figures, and lets faults strike. */

import { type Fault, faultOf, GPU_FAULT_LINES, isPoison } from "./faults.ts";
import { observe, type FinishedReason, type ModelMetrics } from "./metrics.ts";
import type { SimOptions } from "./options.ts";
import type { Pacer } from "./pacer.ts";
import { tokensOf } from "./prompt.ts";
import type { GenerationRequest } from "./request.ts";
import type { Scheduler, Ticket } from "./scheduler.ts";
import { textOf } from "./text.ts";
import type { Summary } from "../wire/wire.ts";

/** Tokens of one answer that are made before others get their turn. */
const BURST_TOKENS = 64;

/** What was written before a crash or a cut gets this long to reach the client. */
const FAULT_DELAY_MS = 10;

/** The engine as its answers see it. */
export interface Engine {
  options: SimOptions;
  /** Silence after which a stream of events carries a comment; null: never. */
  keepAliveMs: number | null;
  pacer: Pacer;
  scheduler: Scheduler;
  metrics: ReadonlyMap<string, ModelMetrics>;
  /** The figures of a model; those of its base for an adapter. */
  metricsOf(model: string): ModelMetrics;
  /** All answers that have not ended. */
  running: Set<Generation>;
  /** Ends the process; `why` is the log's word for it, `lines` what the engine says before. */
  crash(why: string, lines?: readonly string[]): void;
  /** A stream has ended, of the request with this signal. */
  onStreamEnd?: (signal: AbortSignal) => void;
}

/** How an answer ended. `cut`: its connection is to be reset. */
export type Outcome = "done" | "shutdown" | "error" | "cut" | "gone";

/** Where an answer goes. */
export interface Output {
  /** Before the first token. */
  open(cachedTokens: number | null): void;
  /** The choice's next token; `index` counts from 0. */
  token(choice: number, index: number): void;
  /** The choice is complete. */
  finish(choice: number): void;
  /** After each burst; a promise holds the next one back until the client has read. */
  flush(): Promise<unknown> | null;
  /** Once, at the end, whatever it is. */
  end(outcome: Outcome, summary: Summary): void;
}

export interface Generation {
  /** The client has gone: stop at once, send nothing more. */
  abort(): void;
  /** The engine stops: end the answer as vLLM does, with the finish reason `abort`. */
  shutdown(): void;
}

interface RunBy {
  engine: Engine;
  receivedAt: number;
}

/**
 * Starts an answer. Its first token is due `ttftMs` after `receivedAt` (`performance.now()`), or
 * after its prefill where the engine has a queue or takes its time for that.
 */
export function generate(request: GenerationRequest, output: Output, by: RunBy): Generation {
  return new RunningAnswer(request, output, by);
}

class RunningAnswer implements Generation {
  readonly #request: GenerationRequest;
  readonly #output: Output;
  readonly #engine: Engine;
  readonly #receivedAt: number;
  readonly #ticket: Ticket;
  readonly #metrics: ModelMetrics;
  readonly #fault: Fault | null;
  readonly #isPoison: boolean;
  readonly #promptTokens: number;
  /** Tokens of the longest choice. */
  readonly #longest: number;
  /** Where the cache has no limit, the figure for it is counted here. */
  readonly #kvCounted: number;
  readonly #produced: number[];
  #total = 0;
  /** Tokens of the longest choice so far. */
  #made = 0;
  #dueAt = 0;
  #admittedAt = 0;
  #firstAt = 0;
  #lastAt = 0;
  #crashAt = 0;
  #ended = false;

  constructor(request: GenerationRequest, output: Output, { engine, receivedAt }: RunBy) {
    const { options } = engine;
    const { choices, prompts, model } = request;
    this.#request = request;
    this.#output = output;
    this.#engine = engine;
    this.#receivedAt = receivedAt;
    this.#metrics = engine.metricsOf(model);
    this.#fault = faultOf(options, request.stream);
    this.#isPoison = isPoison(options, prompts);
    this.#promptTokens = tokensOf(prompts);
    this.#longest = Math.max(0, ...choices.map((choice) => choice.length));
    this.#kvCounted = options.kvTokens === null ? 1 : 0;
    this.#produced = choices.map(() => 0);
    engine.running.add(this);
    this.#ticket = engine.scheduler.enter({
      model,
      metrics: this.#metrics,
      prompts,
      outputTokens: choices.reduce((sum, choice) => sum + choice.length, 0),
      choices: choices.length,
      arrivedAt: receivedAt,
      admitted: (at) => {
        this.#admittedAt = at;
        this.#metrics.kvTokens += this.#kvCounted * this.#promptTokens;
      },
      prefilled: (at) => {
        this.#dueAt = at + options.ttftMs;
        engine.pacer.start(this.#step, this.#dueAt);
      },
    });
  }

  abort(): void {
    this.#end("gone", "abort");
  }

  shutdown(): void {
    this.#end("shutdown", "abort");
  }

  #end(outcome: Outcome, reason: FinishedReason): void {
    if (this.#ended) return;
    this.#ended = true;
    const metrics = this.#metrics;
    this.#engine.pacer.cancel(this.#step);
    this.#engine.running.delete(this);
    if (this.#admittedAt > 0)
      metrics.kvTokens -= this.#kvCounted * (this.#promptTokens + this.#total);
    this.#ticket.leave(() => this.#outputText());
    metrics.finished[reason] += 1;
    if (reason === "stop" || reason === "length") this.#observeFinished();
    this.#output.end(outcome, this.#summary());
  }

  #summary(): Summary {
    return {
      promptTokens: this.#promptTokens,
      cachedTokens: this.#ticket.cachedTokens,
      completionTokens: this.#total,
      produced: this.#produced,
      prefillMs: this.#firstAt === 0 ? 0 : this.#firstAt - this.#receivedAt,
      decodeMs: this.#lastAt - this.#firstAt,
    };
  }

  /** What the next request of this conversation begins with, if it is as simple as that. */
  #outputText(): string | null {
    const [prompt, ...more] = this.#request.prompts;
    const [choice, ...others] = this.#request.choices;
    if (!prompt || !choice || more.length + others.length + choice.lead.length > 0) return null;
    return prompt.text + textOf(choice.origin, this.#made);
  }

  #observeFinished(): void {
    const metrics = this.#metrics;
    const now = performance.now();
    const began = this.#firstAt === 0 ? now : this.#firstAt;
    observe(metrics.e2e, (now - this.#receivedAt) / 1000);
    observe(metrics.inference, (now - this.#admittedAt) / 1000);
    observe(metrics.queue, (this.#admittedAt - this.#receivedAt) / 1000);
    observe(metrics.prefill, (began - this.#admittedAt) / 1000);
    observe(metrics.decode, (now - began) / 1000);
    if (this.#longest > 1)
      observe(metrics.tpot, (this.#lastAt - began) / (this.#longest - 1) / 1000);
    observe(metrics.requestPromptTokens, this.#promptTokens);
    observe(metrics.requestGenerationTokens, this.#total);
  }

  #failNow(): null {
    this.#end(this.#fault?.kind === "cut" ? "cut" : "error", "error");
    return null;
  }

  /** A step of its own: the engine dies even if this client leaves or reads no more. */
  readonly #crash = (now: number): number | null => {
    if (now < this.#crashAt) return this.#crashAt;
    const { options } = this.#engine;
    this.#engine.crash(`after ${options.crashAfterTokens} tokens of one request`);
    return null;
  };

  #isFaultDue(): boolean {
    return this.#fault !== null && this.#total >= this.#fault.afterTokens;
  }

  /** One token of each unfinished choice; false when the fault has to strike now. */
  #round(): boolean {
    const { choices } = this.#request;
    for (let i = 0; i < choices.length; i++) {
      const length = choices[i]?.length ?? 0;
      if (this.#made >= length) continue;
      this.#output.token(i, this.#made);
      this.#produced[i] = this.#made + 1;
      this.#total += 1;
      this.#metrics.generationTokens += 1;
      this.#metrics.kvTokens += this.#kvCounted;
      if (this.#isFaultDue()) return false;
      if (this.#made + 1 === length) this.#output.finish(i);
    }
    this.#made += 1;
    return true;
  }

  #open(now: number): void {
    this.#firstAt = now;
    this.#lastAt = now;
    this.#metrics.promptTokens += this.#promptTokens;
    observe(this.#metrics.ttft, (now - this.#receivedAt) / 1000);
    this.#output.open(this.#ticket.cachedTokens);
  }

  #itlMs(): number {
    const { options, scheduler } = this.#engine;
    return options.itlMs + options.itlPerSeqMs * (scheduler.running() - 1);
  }

  /** Tokens are due at fixed times from the first one on, so that lateness does not add up. */
  #burst(now: number): number {
    if (this.#made === 0) return 1;
    const most = Math.ceil(BURST_TOKENS / this.#request.choices.length);
    const itlMs = this.#itlMs();
    if (itlMs <= 0) return most;
    return Math.min(most, 1 + Math.floor((now - this.#dueAt) / itlMs));
  }

  readonly #step = (now: number): number | null => {
    if (this.#ended) return null;
    if (this.#isFaultDue()) return this.#failNow();
    if (now < this.#dueAt) return this.#dueAt;
    const before = this.#made;
    if (before === 0 && this.#isPoison) {
      this.#engine.crash("of a prompt with the text of --fault crash-on-text", GPU_FAULT_LINES);
      return null;
    }
    const count = Math.min(this.#burst(now), this.#longest - before);
    if (before === 0) this.#open(now);
    else observe(this.#metrics.itl, (now - this.#lastAt) / count / 1000, count);
    this.#lastAt = now;
    for (let i = 0; i < count; i++) {
      if (!this.#round()) return this.#strike(this.#output.flush());
    }
    this.#dueAt += (this.#made - before) * this.#itlMs();
    if (before === 0) this.#dueAt += this.#engine.options.silenceMs;
    return this.#pause(this.#output.flush());
  };

  #strike(drained: Promise<unknown> | null): number | null {
    const { pacer } = this.#engine;
    if (this.#fault?.kind === "error") return this.#failNow();
    const soon = () => performance.now() + FAULT_DELAY_MS;
    if (this.#fault?.kind === "crash") {
      this.#crashAt = soon();
      pacer.start(this.#crash, this.#crashAt);
      return null;
    }
    if (!drained) return soon();
    whenSettled(drained, () => this.#ended || pacer.start(this.#step, soon()));
    return null;
  }

  #pause(drained: Promise<unknown> | null): number | null {
    if (this.#made >= this.#longest) {
      this.#end("done", this.#request.choices[0]?.reason === "length" ? "length" : "stop");
      return null;
    }
    if (!drained) return this.#dueAt;
    whenSettled(drained, () => {
      if (this.#ended) return;
      // Nothing is generated while the client does not read, so nothing has to be caught up.
      this.#dueAt = Math.max(this.#dueAt, performance.now());
      this.#engine.pacer.start(this.#step, this.#dueAt);
    });
    return null;
  }
}

/** A write that fails has lost its reader, which the abort signal shows; here both mean "go on". */
function whenSettled(write: Promise<unknown>, next: () => unknown): void {
  void write.then(next, next);
}
