/** Carries answers to the client: as a stream, as one body, or as embeddings. */

import { simulatedFailure } from "./faults.ts";
import { generate, type Engine, type Generation, type Outcome, type Output } from "./generate.ts";
import type { EmbeddingRequest, GenerationRequest } from "./request.ts";
import { embeddingOf, textOf, tokenAt } from "./text.ts";
import {
  answerBody,
  createFrames,
  DONE,
  embeddingsBody,
  errorFrame,
  errorResponse,
  type Usage,
} from "./vllm.ts";

export interface AnswerContext {
  engine: Engine;
  /** `performance.now()` when the request had arrived. */
  receivedAt: number;
  /** Aborted when the client goes. */
  signal: AbortSignal;
}

/**
 * A stream of server-sent events. The status line goes out with the first token: `Bun.serve` sends
 * no head without body bytes, where vLLM sends it before the prefill.
 */
export function streamAnswer(request: GenerationRequest, context: AnswerContext): Response {
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
      const output = streamOutput(request, controller, context.engine.options.noDone);
      generation = generate(request, output, context);
    },
    cancel: gone,
  });
  return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
}

/** A whole answer as one JSON body, sent when its last token is made. */
export async function wholeAnswer(
  request: GenerationRequest,
  context: AnswerContext,
): Promise<Response> {
  const { outcome, produced } = await ended(request, context);
  if (outcome === "error") return errorResponse(simulatedFailure());
  const choices = request.choices.map((choice, i) => ({
    text: textOf(choice.origin, produced[i] ?? 0),
    reason: outcome === "done" ? choice.reason : ("abort" as const),
  }));
  const completionTokens = produced.reduce((sum, count) => sum + count, 0);
  return Response.json(
    answerBody(request.head, choices, { promptTokens: request.promptTokens, completionTokens }),
  );
}

/** Embeddings, after the time that a prefill takes. */
export async function embeddingAnswer(
  request: EmbeddingRequest,
  context: AnswerContext,
): Promise<Response> {
  const head = { id: request.id, created: Math.floor(Date.now() / 1000), model: request.model };
  const { outcome } = await ended(
    {
      head: { ...head, kind: "completion" },
      promptTokens: request.promptTokens,
      choices: [],
      stream: false,
    },
    context,
  );
  if (outcome !== "done") return errorResponse(simulatedFailure());
  const vectors = request.inputs.map((input) =>
    embeddingOf(request.model, input.text, request.dimensions),
  );
  return Response.json(embeddingsBody(head, vectors, request));
}

/** Generates without sending; settles when the answer is complete, failed or no longer wanted. */
function ended(
  request: Pick<GenerationRequest, "head" | "promptTokens" | "choices" | "stream">,
  context: AnswerContext,
): Promise<{ outcome: Outcome; produced: number[] }> {
  return new Promise((resolve) => {
    if (context.signal.aborted) {
      resolve({ outcome: "gone", produced: [] });
      return;
    }
    const gone = () => generation.abort();
    const generation = generate(
      request,
      {
        open: () => undefined,
        token: () => undefined,
        finish: () => undefined,
        flush: () => null,
        end: (outcome, produced) => {
          context.signal.removeEventListener("abort", gone);
          resolve({ outcome, produced });
        },
      },
      context,
    );
    context.signal.addEventListener("abort", gone, { once: true });
  });
}

function streamOutput(
  request: GenerationRequest,
  controller: ReadableStreamDirectController,
  noDone: boolean,
): Output {
  const { choices, continuousUsage, promptTokens } = request;
  const frames = createFrames(request.head);
  const finished = new Set<number>();
  const counts = choices.map(() => 0);
  let pending = "";

  const usageOf = (choice: number): Usage | null =>
    continuousUsage ? { promptTokens, completionTokens: counts[choice] ?? 0 } : null;

  const close = (produced: number[], error: boolean) => {
    if (error) pending += errorFrame(simulatedFailure());
    else if (request.includeUsage) {
      const completionTokens = produced.reduce((sum, count) => sum + count, 0);
      pending += frames.usage({ promptTokens, completionTokens });
    }
    if (!noDone) pending += DONE;
    // What was written and not read yet is still sent before the end.
    if (pending !== "") unawaited(controller.write(pending));
    controller.close();
  };

  return {
    open() {
      for (const i of choices.keys()) pending += frames.opening(i, usageOf(i));
    },
    token(choice, index) {
      const origin = choices[choice]?.origin;
      if (!origin) return;
      counts[choice] = index + 1;
      pending += frames.token(choice, tokenAt(origin, index), usageOf(choice));
    },
    finish(choice) {
      finished.add(choice);
      pending += frames.finish(choice, choices[choice]?.reason ?? "stop", usageOf(choice));
    },
    flush() {
      const written = controller.write(pending);
      pending = "";
      if (typeof written !== "number") return written;
      unawaited(controller.flush());
      return null;
    },
    end(outcome, produced) {
      if (outcome === "cut") {
        // Bun resets the connection of a stream that fails; nothing marks an end.
        controller.close(new Error("cut (simulated)"));
      } else if (outcome === "gone") {
        controller.close();
      } else {
        if (outcome === "shutdown") {
          for (const i of choices.keys()) {
            if (!finished.has(i)) pending += frames.finish(i, "abort", usageOf(i));
          }
        }
        close(produced, outcome === "error");
      }
    },
  };
}

/** A write whose outcome does not matter: when it fails the client has gone, and the signal says so. */
function unawaited(write: number | Promise<number>): void {
  const ignore = () => undefined;
  if (typeof write !== "number") void write.then(ignore, ignore);
}
