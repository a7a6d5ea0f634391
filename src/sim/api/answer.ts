/** Carries what is generated to the client: as a stream or as one body. */

import { simulatedFailure } from "../core/faults.ts";
import {
  generate,
  type Engine,
  type Generation,
  type Outcome,
  type Output,
} from "../core/generate.ts";
import type { Choice, GenerationRequest } from "../core/request.ts";
import { tokensOf } from "../core/prompt.ts";
import { textOf, tokenAt } from "../core/text.ts";
import { SSE, type FinishedChoice, type Summary, type Usage, type Wire } from "../wire/wire.ts";

export interface AnswerContext {
  engine: Engine;
  /** `performance.now()` when the request had arrived. */
  receivedAt: number;
  /** Aborted when the client goes. */
  signal: AbortSignal;
}

/** What is asked and how it is to be written. */
export interface GenerationJob {
  generation: GenerationRequest;
  wire: Wire;
}

/**
 * A stream. The status line goes out with the first bytes: `Bun.serve` sends no head without body
 * bytes, where the engines send it before the prefill.
 */
export function streamAnswer(asked: GenerationJob, context: AnswerContext): Response {
  let generation: Generation | null = null;
  const gone = () => generation?.abort();
  const body = new ReadableStream<Uint8Array>({
    type: "direct",
    pull(controller: ReadableStreamDirectController) {
      if (context.signal.aborted) {
        controller.close();
        return;
      }
      context.signal.addEventListener("abort", gone, { once: true });
      const output = streamOutput(asked, controller, context);
      generation = generate(asked.generation, output, context);
    },
    cancel: gone,
  });
  return new Response(body, { headers: { "content-type": asked.wire.contentType } });
}

/** A whole answer as one JSON body, sent when its last token is made. */
export async function wholeAnswer(
  { generation, wire }: GenerationJob,
  context: AnswerContext,
): Promise<Response> {
  const { outcome, summary } = await settled(generation, context);
  const choices = generation.choices.map((choice, i) =>
    finished(choice, summary.produced[i] ?? 0, outcome),
  );
  return Response.json(wire.whole(choices, summary));
}

/**
 * Generates without sending; resolves when the answer is complete, cut short by the end of the
 * engine, or no longer wanted. Throws the simulated failure when a fault strikes.
 */
export async function settled(
  request: GenerationRequest,
  context: AnswerContext,
): Promise<{ outcome: Outcome; summary: Summary }> {
  const end = Promise.withResolvers<{ outcome: Outcome; summary: Summary }>();
  const gone = () => generation.abort();
  const generation = generate(
    request,
    {
      open: () => undefined,
      token: () => undefined,
      finish: () => undefined,
      flush: () => null,
      end: (outcome, summary) => end.resolve({ outcome, summary }),
    },
    context,
  );
  if (context.signal.aborted) gone();
  context.signal.addEventListener("abort", gone, { once: true });
  const result = await end.promise;
  context.signal.removeEventListener("abort", gone);
  if (result.outcome === "error") throw simulatedFailure();
  return result;
}

/** What a choice has said after so many of its tokens. */
function finished(choice: Choice, produced: number, outcome: Outcome): FinishedChoice {
  const lead = choice.lead.slice(0, produced);
  const count = produced - lead.length;
  const thoughts = lead.filter((piece) => piece.channel === "reasoning");
  const parts = lead.filter((piece) => piece.channel === "call");
  return {
    text: textOf(choice.origin, count),
    tokens: Array.from({ length: count }, (_, i) => tokenAt(choice.origin, i)),
    reason: outcome === "done" ? choice.reason : "abort",
    reasoning: thoughts.length > 0 ? thoughts.map((piece) => piece.text).join("") : null,
    calls: parts.flatMap(({ call, opens }) =>
      opens
        ? {
            ...opens,
            arguments: parts
              .filter((part) => part.call === call)
              .map((part) => part.text)
              .join(""),
          }
        : [],
    ),
  };
}

function streamOutput(
  { generation, wire }: GenerationJob,
  controller: ReadableStreamDirectController,
  { engine, signal }: AnswerContext,
): Output {
  const { choices, continuousUsage, prompts } = generation;
  const promptTokens = tokensOf(prompts);
  const { noDone } = engine.options;
  const closed = new Set<number>();
  const counts = choices.map(() => 0);
  let pending = "";
  let blocked = false;

  const usageOf = (choice: number): Usage | null =>
    continuousUsage
      ? { promptTokens, completionTokens: counts[choice] ?? 0, cachedTokens: null }
      : null;

  // A client that reads nothing needs no sign of life.
  const keepAlive =
    wire.contentType === SSE ? keepAliveOf(engine, controller, () => !blocked) : null;

  return {
    open(cachedTokens) {
      wire.begin?.(cachedTokens);
      for (const i of choices.keys()) pending += wire.opening?.(i, usageOf(i)) ?? "";
    },
    token(choice, index) {
      const from = choices[choice];
      if (!from) return;
      counts[choice] = index + 1;
      const { lead } = from;
      const piece = index < lead.length ? lead[index] : undefined;
      pending += piece
        ? (wire.piece?.(choice, piece, usageOf(choice)) ?? "")
        : wire.token(choice, tokenAt(from.origin, index - lead.length), usageOf(choice));
    },
    finish(choice) {
      closed.add(choice);
      pending += wire.finish(choice, choices[choice]?.reason ?? "stop", usageOf(choice));
    },
    flush() {
      keepAlive?.sent();
      if (pending === "") return null;
      const written = controller.write(pending);
      pending = "";
      if (typeof written !== "number") {
        blocked = true;
        const free = () => {
          blocked = false;
        };
        return written.then(free, free);
      }
      unawaited(controller.flush());
      return null;
    },
    end(outcome, summary) {
      keepAlive?.stop();
      if (outcome === "cut") {
        // Bun resets the connection of a stream that fails; nothing marks an end.
        controller.close(new Error("cut (simulated)"));
        return;
      }
      if (outcome !== "gone") {
        if (outcome === "shutdown") {
          for (const i of choices.keys()) {
            if (!closed.has(i)) pending += wire.finish(i, "abort", usageOf(i));
          }
        }
        pending +=
          outcome === "error" ? wire.error(simulatedFailure(), noDone) : wire.end(summary, noDone);
        // What was written and not read yet is still sent before the end.
        if (pending !== "") unawaited(controller.write(pending));
      }
      engine.onStreamEnd?.(signal);
      controller.close();
    },
  };
}

/** A write whose outcome does not matter: when it fails the client has gone, and the signal says so. */
function unawaited(write: number | Promise<number>): void {
  const ignore = () => undefined;
  if (typeof write !== "number") void write.then(ignore, ignore);
}

/** An event-stream comment without text, which clients skip. */
const COMMENT = ":\n\n";

/** Sends a comment whenever nothing was sent for `keepAliveMs`, from now until it is stopped. */
function keepAliveOf(
  { keepAliveMs, pacer }: Engine,
  controller: ReadableStreamDirectController,
  isRead: () => boolean,
) {
  if (keepAliveMs === null) return null;
  let sentAt = performance.now();
  const step = (now: number): number => {
    if (now >= sentAt + keepAliveMs) {
      if (isRead()) {
        unawaited(controller.write(COMMENT));
        unawaited(controller.flush());
      }
      sentAt = now;
    }
    return sentAt + keepAliveMs;
  };
  pacer.start(step, sentAt + keepAliveMs);
  return {
    /** Something else was sent just now. */
    sent() {
      sentAt = performance.now();
    },
    stop: () => pacer.cancel(step),
  };
}
