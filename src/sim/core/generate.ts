/** Produces an answer token by token at its pace, keeps its figures, and lets faults strike. */

import { faultOf, GPU_FAULT_LINES, isPoison } from "./faults.ts";
import { observe, type FinishedReason, type ModelMetrics } from "./metrics.ts";
import type { SimOptions } from "./options.ts";
import type { Pacer } from "./pacer.ts";
import { tokensOf } from "./prompt.ts";
import type { GenerationRequest } from "./request.ts";
import type { Scheduler } from "./scheduler.ts";
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

/**
 * Starts an answer. Its first token is due `ttftMs` after `receivedAt` (`performance.now()`), or
 * after its prefill where the engine has a queue or takes its time for that.
 */
export function generate(
  request: GenerationRequest,
  output: Output,
  { engine, receivedAt }: { engine: Engine; receivedAt: number },
): Generation {
  const { options, pacer, scheduler } = engine;
  const { choices, prompts } = request;
  const promptTokens = tokensOf(prompts);
  const metrics = engine.metricsOf(request.model);
  const fault = faultOf(options, request.stream);
  const poison = isPoison(options, prompts);
  const longest = Math.max(0, ...choices.map((choice) => choice.length));
  const produced = choices.map(() => 0);
  /** Where the cache has no limit, the figure for it is counted here. */
  const kvCounted = options.kvTokens === null ? 1 : 0;
  let total = 0;
  let made = 0; // tokens of the longest choice so far
  let dueAt = 0;
  let admittedAt = 0;
  let firstAt = 0;
  let lastAt = 0;
  let crashAt = 0;
  let ended = false;

  const end = (outcome: Outcome, reason: FinishedReason) => {
    if (ended) return;
    ended = true;
    pacer.cancel(step);
    engine.running.delete(generation);
    if (admittedAt > 0) metrics.kvTokens -= kvCounted * (promptTokens + total);
    ticket.leave(outputText);
    metrics.finished[reason] += 1;
    if (reason === "stop" || reason === "length") observeFinished();
    output.end(outcome, summary());
  };

  const summary = (): Summary => ({
    promptTokens,
    cachedTokens: ticket.cachedTokens,
    completionTokens: total,
    produced,
    prefillMs: firstAt === 0 ? 0 : firstAt - receivedAt,
    decodeMs: lastAt - firstAt,
  });

  /** What the next request of this conversation begins with, if it is as simple as that. */
  const outputText = (): string | null => {
    const [prompt, ...more] = prompts;
    const [choice, ...others] = choices;
    if (!prompt || !choice || more.length + others.length + choice.lead.length > 0) return null;
    return prompt.text + textOf(choice.origin, made);
  };

  const observeFinished = () => {
    const now = performance.now();
    const began = firstAt === 0 ? now : firstAt;
    observe(metrics.e2e, (now - receivedAt) / 1000);
    observe(metrics.inference, (now - admittedAt) / 1000);
    observe(metrics.queue, (admittedAt - receivedAt) / 1000);
    observe(metrics.prefill, (began - admittedAt) / 1000);
    observe(metrics.decode, (now - began) / 1000);
    if (longest > 1) observe(metrics.tpot, (lastAt - began) / (longest - 1) / 1000);
    observe(metrics.requestPromptTokens, promptTokens);
    observe(metrics.requestGenerationTokens, total);
  };

  const strike = (): null => {
    end(fault?.kind === "cut" ? "cut" : "error", "error");
    return null;
  };

  /** A step of its own: the engine dies even if this client leaves or reads no more. */
  const crash = (now: number): number | null => {
    if (now < crashAt) return crashAt;
    engine.crash(`after ${options.crashAfterTokens} tokens of one request`);
    return null;
  };

  /** One token of each unfinished choice; false when the fault has to strike now. */
  const round = (): boolean => {
    for (let i = 0; i < choices.length; i++) {
      const length = choices[i]?.length ?? 0;
      if (made >= length) continue;
      output.token(i, made);
      produced[i] = made + 1;
      total += 1;
      metrics.generationTokens += 1;
      metrics.kvTokens += kvCounted;
      if (fault && total >= fault.afterTokens) return false;
      if (made + 1 === length) output.finish(i);
    }
    made += 1;
    return true;
  };

  const prefilled = (now: number) => {
    firstAt = now;
    lastAt = now;
    metrics.promptTokens += promptTokens;
    observe(metrics.ttft, (now - receivedAt) / 1000);
    output.open(ticket.cachedTokens);
  };

  const paceOf = () => options.itlMs + options.itlPerSeqMs * (scheduler.running() - 1);

  /** Tokens are due at fixed times from the first one on, so that lateness does not add up. */
  const burst = (now: number): number => {
    if (made === 0) return 1;
    const most = Math.ceil(BURST_TOKENS / choices.length);
    const itlMs = paceOf();
    if (itlMs <= 0) return most;
    return Math.min(most, 1 + Math.floor((now - dueAt) / itlMs));
  };

  const step = (now: number): number | null => {
    if (ended) return null;
    if (fault && total >= fault.afterTokens) return strike();
    if (now < dueAt) return dueAt;
    if (made === 0 && poison) {
      engine.crash("of a prompt with the text of --fault crash-on-text", GPU_FAULT_LINES);
      return null;
    }
    const count = Math.min(burst(now), longest - made);
    if (made === 0) prefilled(now);
    else observe(metrics.itl, (now - lastAt) / count / 1000, count);
    lastAt = now;
    const before = made;
    for (let i = 0; i < count; i++) {
      if (!round()) return struck(output.flush());
    }
    dueAt += (made - before) * paceOf();
    if (before === 0) dueAt += options.silenceMs;
    return paused(output.flush());
  };

  const struck = (drained: Promise<unknown> | null): number | null => {
    if (fault?.kind === "error") return strike();
    const soon = () => performance.now() + FAULT_DELAY_MS;
    if (fault?.kind === "crash") {
      crashAt = soon();
      pacer.start(crash, crashAt);
      return null;
    }
    if (!drained) return soon();
    whenSettled(drained, () => ended || pacer.start(step, soon()));
    return null;
  };

  const paused = (drained: Promise<unknown> | null): number | null => {
    if (made >= longest) {
      end("done", choices[0]?.reason === "length" ? "length" : "stop");
      return null;
    }
    if (!drained) return dueAt;
    whenSettled(drained, () => {
      if (ended) return;
      // Nothing is generated while the client does not read, so nothing has to be caught up.
      dueAt = Math.max(dueAt, performance.now());
      pacer.start(step, dueAt);
    });
    return null;
  };

  const generation: Generation = {
    abort: () => end("gone", "abort"),
    shutdown: () => end("shutdown", "abort"),
  };
  engine.running.add(generation);
  const ticket = scheduler.enter({
    model: request.model,
    metrics,
    prompts,
    outputTokens: choices.reduce((sum, choice) => sum + choice.length, 0),
    choices: choices.length,
    arrivedAt: receivedAt,
    admitted(at) {
      admittedAt = at;
      metrics.kvTokens += kvCounted * promptTokens;
    },
    prefilled(at) {
      dueAt = at + options.ttftMs;
      pacer.start(step, dueAt);
    },
  });
  return generation;
}

/** A write that fails has lost its reader, which the abort signal tells; here both mean "go on". */
function whenSettled(write: Promise<unknown>, next: () => unknown): void {
  void write.then(next, next);
}
