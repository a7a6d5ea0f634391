/** Keeps a stream's client waiting with comments while the engine has not answered yet. */

import { KEEP_ALIVE } from "./relay.ts";
import type { Dialect } from "../request/routes.ts";

export interface KeepAliveOptions {
  firstKeepAliveMs: number;
  keepAliveMs: number;
  dialect: Dialect;
}

/**
 * The answer itself if it comes in time; `answering` must not fail. Otherwise the client gets its 200 and a comment now, more
 * of them while nothing comes, and then the answer's body; an answer that turns out to be an error
 * is an event in the stream, since the status has gone.
 */
export async function withKeepAlive(
  answering: Promise<Response>,
  options: KeepAliveOptions,
): Promise<Response> {
  const silence = Promise.withResolvers<null>();
  const timer = setTimeout(() => silence.resolve(null), options.firstKeepAliveMs);
  try {
    return (await Promise.race([answering, silence.promise])) ?? early(answering, options);
  } finally {
    clearTimeout(timer);
  }
}

const encoder = new TextEncoder();

type Reader = NonNullable<ReturnType<typeof readerOf>>;

function readerOf(answer: Response) {
  return answer.body?.getReader();
}

function early(answering: Promise<Response>, options: KeepAliveOptions): Response {
  let timer: ReturnType<typeof setInterval> | undefined;
  let reading: Promise<Reader | null> | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(KEEP_ALIVE);
        // Only for a client that takes them: `desiredSize` sinks below 0 with what it has not read.
        timer = setInterval(() => {
          if ((controller.desiredSize ?? 0) >= 0) controller.enqueue(KEEP_ALIVE);
        }, options.keepAliveMs);
        reading = answering.then(async (answer) => {
          clearInterval(timer);
          if (answer.status >= 400) {
            const named = options.dialect === "anthropic" || options.dialect === "responses";
            const event = `${named ? "event: error\n" : ""}data: ${await answer.text()}\n\n`;
            controller.enqueue(encoder.encode(event));
            return null;
          }
          const reader = readerOf(answer) ?? null;
          // A client that has stopped reading does not pull: the answer's end must end this too.
          reader?.closed.catch((error: unknown) => controller.error(error));
          return reader;
        });
      },
      async pull(controller) {
        const reader = await reading;
        if (!reader) return controller.close();
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        clearInterval(timer);
        // An answer that comes all the same has no client.
        await (await reading)?.cancel();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    },
  });
}
