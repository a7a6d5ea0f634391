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
import type { Upstream } from "../../proxy/request/upstream.ts";
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
  const readers = new Set<AbortController>();
  let isOver = false;

  const begin = async (request: Request, search: string, ending: AbortController) => {
    const words = new URLSearchParams(search);
    const query = parseLogQuery(words);
    const worker = find(options.state, words.get("worker") ?? "");
    if (worker.state === "left" || worker.state === "lost")
      throw unreachable(worker, options.now());
    const late = setTimeout(() => ending.abort(tooLate(worker, options)), options.timeoutMs);
    request.signal.addEventListener("abort", () => ending.abort(request.signal.reason));
    try {
      const response = await options.upstream(
        worker,
        WORKER_TARGET,
      )({
        path: `${LOG_PATH}?${formatLogQuery(query)}`,
        method: "GET",
        headers: new Headers(),
        body: null,
        signal: ending.signal,
      });
      if (response.status !== 200) throw await refusal(response, worker);
      return { worker, body: response.body };
    } catch (error) {
      throw explain(error, worker);
    } finally {
      clearTimeout(late);
    }
  };

  return {
    async read(request, search, onEnd) {
      const ending = new AbortController();
      let isEnded = false;
      const end = () => {
        if (isEnded) return;
        isEnded = true;
        readers.delete(ending);
        onEnd();
      };
      try {
        if (isOver) throw stopping();
        if (readers.size >= options.maxReaders) {
          throw new LlmnodeError("refused", `${options.maxReaders} logs are being read already`);
        }
        readers.add(ending);
        const { worker, body } = await begin(request, search, ending);
        return new Response(body && passOn(body, worker, end), {
          headers: { "content-type": LOG_TYPE, "cache-control": "no-store" },
        });
      } catch (error) {
        end();
        throw error;
      }
    },
    endAll() {
      isOver = true;
      for (const ending of readers) ending.abort(stopping());
    },
  };
}

/** One piece at a time, as the client takes them; a break is an error event in the stream. */
function passOn(
  body: ReadableStream<Uint8Array>,
  worker: Worker,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) return controller.enqueue(value);
        } catch (error) {
          const { code, message } = explain(error, worker);
          const event: LogEvent = { type: "error", code, message };
          // What came before may have broken off within a line.
          controller.enqueue(new TextEncoder().encode(`\n${JSON.stringify(event)}\n`));
        }
        controller.close();
        onEnd();
      },
      async cancel() {
        onEnd();
        await reader.cancel();
      },
    },
    { highWaterMark: 0 },
  );
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
async function refusal(response: Response, { name }: Worker): Promise<LlmnodeError> {
  let text = "";
  for await (const piece of response.body ?? []) {
    text += Buffer.from(piece).toString();
    if (text.length > MAX_REFUSAL_BYTES) break;
  }
  const { message } = fieldsIn(fieldsIn(parseJson(text))["error"]) as { message?: unknown };
  const words = typeof message === "string" ? message : `status ${response.status}`;
  const code = response.status === 404 ? "not_found" : "refused";
  return new LlmnodeError(code, `${name}: ${cleanLine(words, 500)}`);
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
