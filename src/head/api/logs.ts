/** What a worker's engine prints, pulled over a lane and passed on at its reader's pace. */

import { workerMeant } from "../../cluster/state/named.ts";
import type { ClusterState, Worker } from "../../cluster/state/state.ts";
import {
  formatLogQuery,
  LOG_PATH,
  LOG_TYPE,
  type LogEvent,
  parseLogQuery,
  WORKER_TARGET,
} from "../../protocol/engine-log.ts";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { ClientStream, type StreamEvents } from "../../proxy/answer/client-stream.ts";
import { clientGone } from "../../proxy/request/client-request.ts";
import {
  type AnswerHead,
  AnswerCollector,
  type AnswerSink,
  type Exchange,
  type ReadAnswer,
  type Upstream,
} from "../../util/http/exchange.ts";
import { fieldsIn, parseJson } from "../../util/json.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";

export interface LogServiceOptions {
  state: ClusterState;
  /** Over a lane, to the worker itself. */
  upstream: (worker: Worker, engine: typeof WORKER_TARGET) => Upstream;
  now: () => number;
  /** How long the worker may take to begin its answer, the wait for a lane included. */
  timeoutMs: number;
  /** Readers of all workers' logs at once; one more is refused. */
  maxReaders: number;
}

export interface LogService {
  /**
   * The log of the worker that the query names, as lines of JSON (see LogEvent); `onEnd` is called
   * once, when the answer is over or failed. Rejects with `bad_request`, `worker_not_found`, `not_found`, `refused`,
   * `not_supported`, `upstream_unreachable`, `shutting_down`.
   */
  read(request: Request, search: string, onEnd: () => void): Promise<Response>;
  /** Ends every answer, with the reason in it. */
  endAll(): void;
}

const MAX_REFUSAL_BYTES = 16 * 1024;

export function createLogService(options: LogServiceOptions): LogService {
  const readers = new Set<LogReader>();
  let isOver = false;
  return {
    async read(request, search, onEnd) {
      const words = new URLSearchParams(search);
      let reader: LogReader | null = null;
      try {
        if (isOver) throw stopping();
        if (readers.size >= options.maxReaders) {
          throw new LlmnodeError("refused", `${options.maxReaders} logs are being read already`);
        }
        const query = parseLogQuery(words);
        const worker = find(options.state, words.get("worker") ?? "");
        if (worker.state === "left" || worker.state === "lost") {
          throw unreachable(worker, options.now());
        }
        const opened = new LogReader(worker, () => {
          readers.delete(opened);
          onEnd();
        });
        reader = opened;
        readers.add(opened);
        request.signal.addEventListener("abort", () => opened.onLeft());
        const late = setTimeout(() => opened.stop(tooLate(worker, options)), options.timeoutMs);
        const path = `${LOG_PATH}?${formatLogQuery(query)}`;
        opened.send(options.upstream(worker, WORKER_TARGET), path);
        const body = await opened.answer.finally(() => clearTimeout(late));
        return new Response(body, {
          headers: { "content-type": LOG_TYPE, "cache-control": "no-store" },
        });
      } catch (error) {
        if (reader === null) onEnd();
        throw error;
      }
    },
    endAll() {
      isOver = true;
      for (const reader of readers) reader.stop(stopping());
    },
  };
}

/** A log on its way to a client, at the client's pace; a break is an error event in it. */
class LogReader implements AnswerSink, StreamEvents {
  readonly #worker: Worker;
  readonly #onEnd: () => void;
  readonly #client = new ClientStream(this);
  readonly #answer = Promise.withResolvers<ReadableStream<Uint8Array>>();
  #exchange: Exchange | null = null;
  #hasBegun = false;
  /** What the worker says instead of its log; null: it answers with a log. */
  #refusal: AnswerCollector | null = null;
  #isOver = false;

  constructor(worker: Worker, onEnd: () => void) {
    this.#worker = worker;
    this.#onEnd = onEnd;
  }

  /** Rejects with what the client is to be told. */
  get answer(): Promise<ReadableStream<Uint8Array>> {
    return this.#answer.promise;
  }

  send(upstream: Upstream, path: string): void {
    const nothing = { host: null, fields: "", body: null, length: null, fresh: false };
    this.#exchange = upstream({ method: "GET", path, ...nothing }, this);
  }

  /** Ends it early. */
  stop(error: LlmnodeError): void {
    this.#exchange?.abort();
    this.fail(error);
  }

  head(head: AnswerHead): void {
    if (head.status === 200) {
      this.#hasBegun = true;
      return this.#answer.resolve(this.#client.body);
    }
    const refusal = new AnswerCollector(MAX_REFUSAL_BYTES);
    refusal.head(head);
    this.#refusal = refusal;
    refusal.answer.then(
      (said) => this.#leave(refused(said, this.#worker)),
      (error: unknown) => this.#leave(explain(error, this.#worker)),
    );
  }

  data(bytes: Uint8Array): void {
    if (this.#refusal) this.#refusal.data(bytes);
    else if (!this.#client.write(bytes)) this.#exchange?.pause();
  }

  end(): void {
    if (this.#refusal) this.#refusal.end();
    else this.#leave(null);
  }

  fail(error: unknown): void {
    if (this.#refusal) this.#refusal.fail(error);
    else this.#leave(explain(error, this.#worker));
  }

  onDrained(): void {
    this.#exchange?.resume();
  }

  onLeft(): void {
    this.#exchange?.abort();
    this.#leave(null);
  }

  #leave(error: LlmnodeError | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#exchange?.abort();
    if (!this.#hasBegun) this.#answer.reject(error ?? clientGone());
    else if (error !== null) {
      const event: LogEvent = { type: "error", code: error.code, message: error.message };
      // What came before may have broken off within a line.
      this.#client.write(new TextEncoder().encode(`\n${JSON.stringify(event)}\n`));
    }
    this.#client.end();
    this.#onEnd();
  }
}

/** Also by `name/1`. Throws `worker_not_found`, `not_found`, `refused`. */
function find(state: ClusterState, wanted: string): Worker {
  const [name = "", engine] = wanted.split("/");
  const worker = workerMeant(state, name);
  if (engine === undefined || engine === "1") return worker;
  throw new LlmnodeError("not_found", `${worker.name} has no engine ${cleanLine(engine, 20)}`);
}

function unreachable({ name, state, lastHeardAt }: Worker, now: number): LlmnodeError {
  const message =
    state === "left"
      ? `${name} has left`
      : `${name} has not been heard for ${formatDuration(now - lastHeardAt)}`;
  return new LlmnodeError("upstream_unreachable", message);
}

function tooLate({ name }: Worker, { timeoutMs }: LogServiceOptions): LlmnodeError {
  const message = `${name} has not answered within ${formatDuration(timeoutMs)}`;
  return new LlmnodeError("upstream_unreachable", message);
}

/** What a worker says instead of its log. */
function refused({ status, bytes }: ReadAnswer, { name }: Worker): LlmnodeError {
  const { message } = fieldsIn(fieldsIn(parseJson(bytes.toString()))["error"]) as {
    message?: unknown;
  };
  const words = typeof message === "string" ? message : `status ${status}`;
  return new LlmnodeError(
    status === 404 ? "not_found" : "refused",
    `${name}: ${cleanLine(words, 500)}`,
  );
}

/** What went wrong on the way, for a person. */
function explain(error: unknown, { name }: Worker): LlmnodeError {
  if (error instanceof LlmnodeError) return error;
  const code = systemCode(error);
  if (code === "LANE_BROKEN") {
    return new LlmnodeError("upstream_unreachable", `the connection to ${name} broke`);
  }
  // Workers of before this did not know that they can be asked themselves.
  if (code === "ECONNREFUSED") {
    const message = `${name} runs a version that cannot show its engine's output`;
    return new LlmnodeError("not_supported", message);
  }
  const message = `${name}: ${cleanLine(messageOf(error), 200)}`;
  return new LlmnodeError("upstream_broken", message);
}

function stopping(): LlmnodeError {
  return new LlmnodeError("shutting_down", "the head is stopping");
}
