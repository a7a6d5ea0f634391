/** The series of finished requests, kept at hand by what they have in common. */

import type { DisconnectPhase } from "../../proxy/record/record-facts.ts";
import { createWorkerSeries, once } from "./labels.ts";
import type { Count, Distribution, Labels, Registry } from "./prometheus.ts";

// Source: OpenTelemetry's semantic conventions for generative AI, metrics; durations and times to
// the first token go on for requests of many minutes.
const DURATION_S = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
  327.68, 655.36,
];
const FIRST_TOKEN_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 20, 30,
  45, 60, 120,
];
const PER_TOKEN_S = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
const TOKENS = Array.from({ length: 14 }, (_, i) => 4 ** i);
const QUEUE_S = [0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const OVERHEAD_S = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1];

const GEN_AI = ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_response_model"] as const;
export type GenAiLabels = Labels<(typeof GEN_AI)[number]>;

export type RequestSeries = ReturnType<typeof registerRequestSeries>;

export function registerRequestSeries(registry: Registry, maxWorkerSeries: number) {
  const times = registerTimes(registry);
  const ends = registerEnds(registry, maxWorkerSeries);
  const kinds = new Map<string, Map<string, Map<string | undefined, Kind>>>();
  const places = new Map<string, Map<string, Place>>();
  return {
    attempts: ends.attempts,
    truncated: ends.truncated,
    /** Of an operation, by the model that was asked for and the one that answered. */
    kind(operation: string, asked: string, answering: string | undefined): Kind {
      const found = kinds.get(operation)?.get(asked)?.get(answering);
      if (found) return found;
      const models = once(kinds, operation, () => new Map());
      const kind = new Kind(times, {
        gen_ai_operation_name: operation,
        gen_ai_request_model: asked,
        gen_ai_response_model: answering,
      });
      once(models, asked, () => new Map()).set(answering, kind);
      return kind;
    },
    place(route: string, model: string): Place {
      const models = once(places, route, () => new Map<string, Place>());
      return once(models, model, () => new Place({ ...times, ...ends }, { route, model }));
    },
  };
}

/** The series of one kind of request. Each begins when it is first counted in, here and below. */
export class Kind {
  readonly #times: Times;
  readonly #names: GenAiLabels;
  readonly #durations = new Map<string | null, Distribution>();
  readonly #tokenUsages = new Map<string, Distribution>();
  #firstToken: Distribution | null = null;
  #perToken: Distribution | null = null;

  constructor(times: Times, names: GenAiLabels) {
    this.#times = times;
    this.#names = names;
  }

  /** `code` null: of requests that ended well. */
  duration(code: string | null): Distribution {
    return once(this.#durations, code, () =>
      this.#times.duration.series({ ...this.#names, error_type: code ?? undefined }),
    );
  }

  get firstToken(): Distribution {
    return (this.#firstToken ??= this.#times.firstToken.series(this.#names));
  }

  get perToken(): Distribution {
    return (this.#perToken ??= this.#times.perToken.series(this.#names));
  }

  tokenUsage(type: string): Distribution {
    return once(this.#tokenUsages, type, () =>
      this.#times.tokenUsage.series({ ...this.#names, gen_ai_token_type: type }),
    );
  }
}

/** The series of a route and a model. */
export class Place {
  readonly #metrics: Times & Ends;
  readonly #labels: { route: string; model: string };
  readonly #totals = new Map<number, Count>();
  readonly #errors = new Map<string, Count>();
  #overhead: Distribution | null = null;
  #queueWait: Distribution | null = null;

  constructor(metrics: Times & Ends, labels: { route: string; model: string }) {
    this.#metrics = metrics;
    this.#labels = labels;
  }

  total(status: number): Count {
    return once(this.#totals, status, () =>
      this.#metrics.total.series({ ...this.#labels, status: String(status) }),
    );
  }

  error(code: string): Count {
    return once(this.#errors, code, () => this.#metrics.errors.series({ ...this.#labels, code }));
  }

  get overhead(): Distribution {
    const { route } = this.#labels;
    return (this.#overhead ??= this.#metrics.overhead.series({ route }));
  }

  get queueWait(): Distribution {
    const { model } = this.#labels;
    return (this.#queueWait ??= this.#metrics.queueWait.series({ model }));
  }

  // What is rare has no series at hand.

  retried(reason: string): void {
    this.#metrics.retries.inc({ model: this.#labels.model, reason });
  }

  resumed(result: string): void {
    this.#metrics.resumes.inc({ model: this.#labels.model, result });
  }

  disconnected(phase: DisconnectPhase): void {
    this.#metrics.disconnects.inc({ model: this.#labels.model, phase });
  }
}

type Times = ReturnType<typeof registerTimes>;
type Ends = ReturnType<typeof registerEnds>;

function registerTimes(registry: Registry) {
  const histogram = <L extends string>(
    name: string,
    help: string,
    shape: { labelNames: readonly L[]; buckets: number[] },
  ) => registry.histogram({ name, help, ...shape });
  return {
    duration: histogram("gen_ai_server_request_duration_seconds", "Time of a request.", {
      labelNames: [...GEN_AI, "error_type"],
      buckets: DURATION_S,
    }),
    firstToken: histogram(
      "gen_ai_server_time_to_first_token_seconds",
      "Time to the first data of a stream, including the wait for a replica.",
      { labelNames: GEN_AI, buckets: FIRST_TOKEN_S },
    ),
    perToken: histogram(
      "gen_ai_server_time_per_output_token_seconds",
      "Time per output token after the first, of streams.",
      { labelNames: GEN_AI, buckets: PER_TOKEN_S },
    ),
    tokenUsage: histogram("gen_ai_client_token_usage", "Tokens of a request, by type.", {
      labelNames: [...GEN_AI, "gen_ai_token_type"],
      buckets: TOKENS,
    }),
    overhead: histogram(
      "llmnode_proxy_overhead_seconds",
      "What the head adds before the first data, without waiting for client, replica or engine.",
      { labelNames: ["route"], buckets: OVERHEAD_S },
    ),
    queueWait: histogram("llmnode_queue_wait_seconds", "Waiting for a replica.", {
      labelNames: ["model"],
      buckets: QUEUE_S,
    }),
  };
}

function registerEnds(registry: Registry, maxWorkerSeries: number) {
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
    registry.counter({ name, help, labelNames });
  const byWorker = (name: string, help: string, labelNames: ("worker" | "model" | "outcome")[]) =>
    createWorkerSeries(counter(name, help, labelNames), maxWorkerSeries);
  return {
    total: counter("llmnode_requests_total", "Finished requests; 499: the client left.", [
      "route",
      "model",
      "status",
    ]),
    errors: counter("llmnode_request_errors_total", "Requests that failed, by error code.", [
      "route",
      "model",
      "code",
    ]),
    disconnects: counter(
      "llmnode_client_disconnects_total",
      "Clients that left early, by what was going on: body, queue, engine or answer.",
      ["model", "phase"],
    ),
    attempts: byWorker("llmnode_attempts_total", "Tries of requests on replicas, by outcome.", [
      "model",
      "worker",
      "outcome",
    ]),
    retries: counter(
      "llmnode_retries_total",
      "Tries after the first, by why the one before failed.",
      ["model", "reason"],
    ),
    truncated: byWorker("llmnode_stream_truncated_total", "Answers cut off after they had begun.", [
      "model",
      "worker",
    ]),
    resumes: counter(
      "llmnode_stream_resumes_total",
      "Cut-off streams that could continue on another replica, by result.",
      ["model", "result"],
    ),
  };
}
