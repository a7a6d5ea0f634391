/** Serves, over a lane, what the head asks of the worker itself: its engine's output. */

import type { LogIndex } from "../engine/log/log-index.ts";
import { type LogReader, type LogReaderSettings, openLogReader } from "../engine/log/reader.ts";
import { LOG_PATH, LOG_TYPE, type LogEvent, parseLogQuery } from "../protocol/engine-log.ts";
import { LlmnodeError } from "../protocol/errors.ts";
import type { RequestHead } from "../protocol/lane-frames.ts";
import type { AnswerBody } from "../util/http/body.ts";
import type { HttpAnswer } from "../util/http/client.ts";

/** An answer whose body is made as it is taken; the signal ends it. */
export type OwnAnswer = Pick<HttpAnswer, "status" | "headers" | "body">;
export type LogService = (head: RequestHead, signal: AbortSignal) => Promise<OwnAnswer>;

export interface LogServiceOptions {
  /** Of the engine's log; null: the engine was not started by this worker. */
  index: LogIndex | null;
  settings: Partial<LogServiceSettings>;
}

export interface LogServiceSettings extends LogReaderSettings {
  /** Readers at once; one more is refused. */
  maxReaders: number;
}

const MAX_READERS = 16;

/** Never rejects for what was asked: refusals are answers. */
export function createLogService({ index, settings }: LogServiceOptions): LogService {
  const { maxReaders = MAX_READERS, ...reading } = settings;
  let readers = 0;

  const read = async (words: URLSearchParams, signal: AbortSignal): Promise<OwnAnswer> => {
    const query = parseLogQuery(words);
    if (index === null) {
      const message = "its engine was started elsewhere (--attach): its output is there, too";
      throw new LlmnodeError("refused", message);
    }
    if (readers >= maxReaders) {
      throw new LlmnodeError("refused", `${maxReaders} readers have this log open already`);
    }
    let isReading = true;
    const leave = () => {
      if (isReading) readers -= 1;
      isReading = false;
      signal.removeEventListener("abort", leave);
    };
    readers += 1;
    signal.addEventListener("abort", leave);
    try {
      const reader = await openLogReader(index, query, { signal, settings: reading });
      return { status: 200, headers: [["content-type", LOG_TYPE]], body: bodyOf(reader, leave) };
    } catch (error) {
      leave();
      throw error;
    }
  };

  return async ({ method, path }, signal) => {
    const url = new URL(`http://worker${path}`);
    try {
      if (method !== "GET" || url.pathname !== LOG_PATH) {
        throw new LlmnodeError("unknown_url", "this worker has no such path");
      }
      return await read(url.searchParams, signal);
    } catch (error) {
      if (!(error instanceof LlmnodeError)) throw error;
      return refusal(error);
    }
  };
}

const encoder = new TextEncoder();

/** Reads on when the last piece was taken: at the pace of the lane's credit. */
function bodyOf(reader: LogReader, onEnd: () => void): AnswerBody {
  let piece = new Uint8Array();
  return {
    async ready() {
      if (piece.length > 0) return piece.length;
      const events = await reader.next();
      if (events === null) onEnd();
      else piece = encode(events);
      return piece.length;
    },
    take(most) {
      const taken = piece.subarray(0, most);
      piece = piece.subarray(most);
      return taken;
    },
    compact() {
      piece = piece.slice();
    },
  };
}

/** An empty line where there is nothing new: a sign of life. */
function encode(events: readonly LogEvent[]): Uint8Array<ArrayBuffer> {
  return encoder.encode(`${events.map((event) => JSON.stringify(event)).join("\n")}\n`);
}

const STATUS: Partial<Record<LlmnodeError["code"], number>> = { not_found: 404, refused: 409 };

function refusal({ code, message }: LlmnodeError): OwnAnswer {
  let rest = encoder.encode(JSON.stringify({ error: { code, message } }));
  return {
    status: STATUS[code] ?? 400,
    headers: [["content-type", "application/json"]],
    body: {
      ready: async () => rest.length,
      take(most) {
        const taken = rest.subarray(0, most);
        rest = rest.subarray(most);
        return taken;
      },
      compact() {},
    },
  };
}
