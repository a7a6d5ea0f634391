/** The stream of frames from the head: opened, asked for something else, and opened again for ever. */

import { type ErrorCode, LlmnodeError, messageOf } from "../../protocol/errors.ts";
import {
  WATCH_SCHEMA,
  type WatchFrame,
  type WatchHello,
  type WatchQuery,
} from "../../protocol/watch-json.ts";
import type { TopEvent } from "../state/event.ts";
import { sleep } from "../../util/sleep.ts";
import { cleanLine } from "../../util/text.ts";
import { readEvents } from "./sse.ts";

/** How the head is asked; both throw LlmnodeErrors. */
export interface HeadCalls {
  /** The answer of a path, for as long as it takes. */
  stream(path: string, signal: AbortSignal): Promise<Response>;
  /** The JSON text of the answer. */
  post(path: string, body: object): Promise<string>;
}

export const CLIENT_SETTINGS = {
  /** Pauses before the next try, one after the other; the last one goes on. */
  backoffMs: [500, 1000, 2000, 4000, 8000, 15_000],
  /** The pause after "not allowed". */
  refusedMs: 30_000,
  /** Silence for this long is a broken connection: the head gives a sign of life every 5 s. */
  silenceMs: 16_000,
};

export type ClientSettings = typeof CLIENT_SETTINGS;

export interface ClientOptions {
  head: HeadCalls;
  query: () => WatchQuery;
  onEvent: (event: TopEvent) => void;
  now: () => number;
  random: () => number;
  settings?: Partial<ClientSettings>;
}

export interface WatchClient extends Disposable {
  /** Sends the query to the head if it has changed. */
  syncQuery(): void;
  retryNow(): void;
}

/** One stream of frames: the watch's id at the head, and the query it was last given. */
interface WatchStream {
  id: string | null;
  sent: string;
  isSending: boolean;
  abort: AbortController;
}

export function startClient(options: ClientOptions): WatchClient {
  const settings = { ...CLIENT_SETTINGS, ...options.settings };
  const { head, onEvent, now } = options;
  let closed = false;
  let attempt = 0;
  let stream: WatchStream | null = null;
  let pause = new AbortController();

  const watch = async () => {
    const query = options.query();
    const current: WatchStream = {
      id: null,
      sent: JSON.stringify(query),
      isSending: false,
      abort: new AbortController(),
    };
    stream = current;
    try {
      await readStream(head, { query, stream: current, silenceMs: settings.silenceMs }, (event) => {
        if (closed) return;
        // Not at the hello: a head that only says hello is not back yet.
        if (event.type === "frame") attempt = 0;
        onEvent(event);
        if (event.type === "hello") syncQuery();
      });
    } finally {
      stream = null;
    }
  };

  const run = async () => {
    while (!closed) {
      attempt += 1;
      if (attempt > 1) onEvent({ type: "connecting", attempt });
      try {
        await watch();
      } catch (error) {
        if (closed) return;
        if (error === REOPEN) {
          attempt = 0;
          continue;
        }
        // What breaks off after it had worked is the first of a new series.
        attempt = Math.max(1, attempt);
        const isAuth = error instanceof LlmnodeError && NOT_ALLOWED.includes(error.code);
        const pauseMs = pauseOf(settings, { attempt, isAuth, random: options.random() });
        const retryAt = now() + pauseMs;
        onEvent({ type: "down", reason: shortReason(error), attempt, retryAt, isAuth });
        pause = new AbortController();
        await sleep(pauseMs, pause.signal);
      }
    }
  };

  const syncQuery = () => {
    if (stream) void sendQuery(head, stream, options.query);
  };
  const reopen = () => {
    pause.abort();
    stream?.abort.abort(REOPEN);
  };

  // After the caller has the client.
  queueMicrotask(() => void run());
  return {
    syncQuery,
    retryNow() {
      attempt = 0;
      reopen();
    },
    [Symbol.dispose]() {
      closed = true;
      reopen();
    },
  };
}

/** One at a time: what changes meanwhile is sent behind it. */
async function sendQuery(
  head: HeadCalls,
  stream: WatchStream,
  latest: () => WatchQuery,
): Promise<void> {
  if (stream.id === null || stream.isSending) return;
  const path = `/api/v1/watch/${encodeURIComponent(stream.id)}`;
  stream.isSending = true;
  try {
    while (!stream.abort.signal.aborted) {
      const query = latest();
      const text = JSON.stringify(query);
      if (text === stream.sent) break;
      stream.sent = text;
      await head.post(path, query);
    }
  } catch {
    // A stream that the head does not know any more, or a head that is gone: start again.
    stream.abort.abort(REOPEN);
  } finally {
    stream.isSending = false;
  }
}

/** Reads a stream to its end, which is an error in any case: what ended it is thrown. */
async function readStream(
  head: HeadCalls,
  { query, stream, silenceMs }: { query: WatchQuery; stream: WatchStream; silenceMs: number },
  onEvent: (event: Extract<TopEvent, { type: "hello" | "frame" }>) => void,
): Promise<never> {
  const { abort } = stream;
  let silence: ReturnType<typeof setTimeout> | undefined;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => abort.abort(new Error("no data from the head")), silenceMs);
  };
  heard();
  try {
    const response = await head.stream(`/api/v1/watch?${wordsOf(query)}`, abort.signal);
    for await (const { event, data } of readEvents(response.body, heard)) {
      if (event === "hello") {
        const hello = readJson<WatchHello>(data, ["watch", "head", "history"]);
        stream.id = hello.watch;
        onEvent({ type: "hello", hello });
      } else if (event === "frame") {
        const frame = readJson<WatchFrame>(data, ["totals", "rows", "events", "attention"]);
        onEvent({ type: "frame", frame });
      }
    }
    throw new Error("the head ended the connection");
  } catch (error) {
    const why: unknown = abort.signal.aborted ? abort.signal.reason : error;
    throw why;
  } finally {
    clearTimeout(silence);
    abort.abort();
  }
}

const NOT_ALLOWED: readonly ErrorCode[] = ["forbidden", "key_missing", "key_invalid"];

/** What a head of another version may send is checked as far as a wrong one would end us. */
function readJson<T extends object>(data: string, parts: readonly (keyof T & string)[]): T {
  const value = JSON.parse(data) as Record<string, unknown>;
  const schema = value["schema"];
  if (schema !== WATCH_SCHEMA) {
    const spoken = typeof schema === "string" ? cleanLine(schema, 60) : "something else";
    throw new Error(
      `the head speaks ${spoken}, this llmnode ${WATCH_SCHEMA}: update the older one`,
    );
  }
  const missing = parts.find(
    (part) => typeof value[part] !== (part === "watch" ? "string" : "object"),
  );
  if (missing !== undefined) throw new Error(`what the head sends has no ${missing}`);
  return value as T;
}

/** The head's address is on the screen already. */
function shortReason(error: unknown): string {
  const text = messageOf(error);
  // So Bun's fetch calls the end of a connection in the middle of an answer.
  if (/^ECONNRESET\b|socket connection was closed/.test(text)) return "connection closed";
  return (error instanceof LlmnodeError ? error.reason : null) ?? text;
}

/** We reconnect on purpose. */
const REOPEN = new Error("reopened");

function pauseOf(
  { backoffMs, refusedMs }: ClientSettings,
  { attempt, isAuth, random }: { attempt: number; isAuth: boolean; random: number },
): number {
  if (isAuth) return refusedMs;
  const pause = backoffMs[Math.min(attempt, backoffMs.length) - 1] ?? 1000;
  // Not all at once when many look at the same head.
  return pause * (0.8 + 0.4 * random);
}

export function wordsOf(query: WatchQuery): string {
  const { view, sort, filter, offset, limit, interval_ms, gone, models_beside, detail } = query;
  const words = new URLSearchParams({
    view,
    sort,
    offset: String(offset),
    limit: String(limit),
    interval_ms: String(interval_ms),
    models_beside: String(models_beside),
  });
  if (filter !== "") words.set("filter", filter);
  if (gone) words.set("gone", "1");
  if (detail !== null) words.set("detail", detail);
  return words.toString();
}
