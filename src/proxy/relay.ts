/** Passes an engine's answer on to the client, chunk by chunk, untouched. */

import { LlmnodeError } from "../protocol/errors.ts";
import { errorEvent } from "./openai.ts";

/** The part of a stream's reader that is used here. */
export interface ChunkReader {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
}

export interface RelayOptions {
  reader: ChunkReader;
  /** The chunk that was waited for before the client got its status. */
  first: Uint8Array;
  /** Server-sent events: a break can be told to the client in the stream itself. */
  eventStream: boolean;
  /** Called for every chunk; must be cheap. */
  onProgress: () => void;
  /** Called once. */
  onEnd: (end: RelayEnd) => void;
}

export type RelayEnd = "ok" | "broken" | "client_gone";

const encoder = new TextEncoder();
const NEWLINE = 0x0a;

/**
 * The client's body. It pulls one chunk at a time, so that a slow client slows the engine and
 * nothing piles up here. A stream of events that breaks ends with an error event and no `[DONE]`;
 * any other body ends as a broken connection.
 */
export function relay(options: RelayOptions): ReadableStream<Uint8Array> {
  const { reader, eventStream, onProgress, onEnd } = options;
  let last = options.first;
  let ended = false;
  const end = (how: RelayEnd) => {
    if (ended) return;
    ended = true;
    onEnd(how);
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(options.first);
      },
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (ended) return;
          if (done || value === undefined) {
            controller.close();
            end("ok");
            return;
          }
          onProgress();
          last = value;
          controller.enqueue(value);
        } catch (error) {
          if (ended) return;
          end("broken");
          if (!eventStream) return controller.error(error);
          controller.enqueue(encoder.encode(`${gapAfter(last)}${errorEvent(broken())}`));
          controller.close();
        }
      },
      cancel() {
        end("client_gone");
      },
    },
    { highWaterMark: 0 },
  );
}

function broken(): LlmnodeError {
  return new LlmnodeError("upstream_broken", "The engine died before its answer was complete.");
}

/** What must stand between a chunk and the next event: the break may lie inside an event. */
function gapAfter(chunk: Uint8Array): string {
  const end = chunk.length;
  if (chunk[end - 1] !== NEWLINE) return "\n\n";
  const before = chunk[end - 2] === 0x0d ? chunk[end - 3] : chunk[end - 2];
  return before === NEWLINE ? "" : "\n";
}
