/** Serves, over a lane, what the head asks of the worker itself: its engine's output. */

import type { LogIndex } from "../engine/log/log-index.ts";
import { type LogReader, type LogReaderSettings, openLogReader } from "../engine/log/reader.ts";
import { LOG_PATH, LOG_TYPE, type LogEvent, parseLogQuery } from "../protocol/engine-log.ts";
import { LlmnodeError } from "../protocol/errors.ts";
import type { AnswerSink, Exchange, HttpRequest, Upstream } from "../util/http/exchange.ts";

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

/** Refusals are answers. */
export function createLogService({ index, settings }: LogServiceOptions): Upstream {
  const { maxReaders = MAX_READERS, ...reading } = settings;
  let readers = 0;

  const open = async ({ method, path }: HttpRequest, signal: AbortSignal): Promise<LogReader> => {
    const url = new URL(`http://worker${path}`);
    if (method !== "GET" || url.pathname !== LOG_PATH) {
      throw new LlmnodeError("unknown_url", "this worker has no such path");
    }
    const query = parseLogQuery(url.searchParams);
    if (index === null) {
      const message = "its engine was started elsewhere (--attach): its output is there, too";
      throw new LlmnodeError("refused", message);
    }
    if (readers > maxReaders) {
      throw new LlmnodeError("refused", `${maxReaders} readers have this log open already`);
    }
    return await openLogReader(index, query, { signal, settings: reading });
  };

  const answer = async (request: HttpRequest, sink: AnswerSink, gate: Gate) => {
    const { signal } = gate.over;
    readers += 1;
    try {
      const reader = await open(request, signal);
      if (signal.aborted) return;
      sink.head({ status: 200, fields: [["content-type", LOG_TYPE]] });
      await passOn(reader, sink, gate);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof LlmnodeError) refuse(error, sink);
      else sink.fail(error);
    } finally {
      readers -= 1;
    }
  };

  return (request, sink) => {
    const gate = openGate();
    queueMicrotask(() => void answer(request, sink, gate));
    return gate;
  };
}

/** Holds a reader back while there is no room for what it reads. */
interface Gate extends Exchange {
  readonly over: AbortController;
  /** Settles while there is room. */
  readonly room: Promise<void>;
}

function openGate(): Gate {
  const over = new AbortController();
  let paused: PromiseWithResolvers<void> | null = null;
  const resume = () => {
    paused?.resolve();
    paused = null;
  };
  return {
    over,
    get room() {
      return paused?.promise ?? Promise.resolve();
    },
    pause() {
      paused ??= Promise.withResolvers();
    },
    resume,
    abort() {
      over.abort();
      resume();
    },
  };
}

async function passOn(reader: LogReader, sink: AnswerSink, gate: Gate): Promise<void> {
  for (;;) {
    await gate.room;
    const events = await reader.next();
    if (gate.over.signal.aborted) return;
    if (events === null) return sink.end();
    sink.data(encode(events));
  }
}

const encoder = new TextEncoder();

/** An empty line where there is nothing new: a sign of life. */
function encode(events: readonly LogEvent[]): Uint8Array<ArrayBuffer> {
  return encoder.encode(`${events.map((event) => JSON.stringify(event)).join("\n")}\n`);
}

const STATUS: Partial<Record<LlmnodeError["code"], number>> = { not_found: 404, refused: 409 };

function refuse({ code, message }: LlmnodeError, sink: AnswerSink): void {
  sink.head({ status: STATUS[code] ?? 400, fields: [["content-type", "application/json"]] });
  sink.data(encoder.encode(JSON.stringify({ error: { code, message } })));
  sink.end();
}
