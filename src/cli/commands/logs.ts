/** `llmnode logs`: what a worker's engine prints, from anywhere. */

import { usage } from "../base/messages.ts";
import { formatLogQuery, type LogQuery } from "../../protocol/engine-log.ts";
import { type ErrorCode, LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { getStream, type HeadClient, headClient } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import { readLogEvents } from "../logs/events.ts";
import { createLogView, type LogView } from "../logs/view.ts";
import type { Options } from "../base/options.ts";
import type { CommandSpec } from "../base/spec.ts";
import type { Output } from "../base/terminal.ts";
import { nameOthers } from "../client/worker-names.ts";

const DEFAULT_TAIL = 200;
const RETRY_MS = 1000;
/** The worker gives a sign of life every 10 s. */
const SILENCE_MS = 45_000;

export const logsCommand: CommandSpec = {
  name: "logs",
  usage: "logs <worker> [-f] [--tail <lines>] [--since <duration>] [--previous] [--json]",
  summary: "show what a worker's engine prints",
  details: [
    "The worker keeps the last 10 to 50 MB. It knows when lines came to about 2 s (longer for old",
    "ones): --since may begin that much too early. --previous is the run before the last start.",
  ],
  argument: { name: "worker", required: true },
  options: [
    { flag: "follow", short: "f", summary: "go on with what comes, until Ctrl-C" },
    {
      flag: "tail",
      value: "<lines>",
      defaultNote: `${DEFAULT_TAIL}; all with --since`,
      summary: "only the last lines; all: everything that is kept",
    },
    { flag: "since", value: "<duration>", summary: "only what came in the last 15m, 2h, ..." },
    { flag: "previous", summary: "the run before the present one, after a crash for example" },
    { flag: "json", summary: "one JSON object a line" },
  ],
  examples: [
    "llmnode logs gpu-01",
    "llmnode logs gpu-01 -f",
    "llmnode logs gpu-01 --previous --tail 50",
    "llmnode logs gpu-01 --since 15m",
  ],
  async run(invocation, terminal) {
    const { options } = invocation;
    const worker = invocation.words[0] ?? "";
    const query = readQuery(options);
    const client = headClient(invocation);
    const view = createLogView(terminal, { json: options.isOn("json") });
    const reading: Reading = { client, worker, query, view, out: terminal.out };
    if (query.follow) await follow(reading);
    else await readWhole(reading);
    return EXIT.ok;
  },
};

/** Throws `usage`. */
export function readQuery(options: Options): LogQuery {
  const follow = options.isOn("follow");
  const previous = options.isOn("previous");
  if (follow && previous) {
    throw usage("--previous has ended: it cannot be followed");
  }
  const sinceMs = options.durationMs("since");
  const whole = options.text("tail") === "all";
  const range = { min: 0, max: 10_000_000 };
  const given = whole ? null : options.integer("tail", range);
  const tail = given ?? (whole || sinceMs !== null ? null : DEFAULT_TAIL);
  return { follow, tail, sinceMs, previous, from: null };
}

interface Reading {
  client: HeadClient;
  worker: string;
  query: LogQuery;
  view: LogView;
  out: Output;
}

async function readWhole(reading: Reading): Promise<void> {
  let lines = 0;
  const end = await readOnce(reading, {
    onEvents: (count) => {
      lines += count;
    },
    onPosition() {},
  }).catch((error: unknown) => nameWorkers(error, reading));
  if (end instanceof LlmnodeError) throw end;
  if (lines === 0) reading.view.remark("(nothing)");
}

/** What may be over some time later. */
const PASSING: readonly ErrorCode[] = [
  "upstream_unreachable",
  "upstream_broken",
  "shutting_down",
  "head_unreachable",
];
/** What the head says of a worker or an engine that it had before. */
const LEFT: readonly ErrorCode[] = ["not_found", "worker_not_found"];

/** Goes on for ever; ends when nobody reads what it prints. */
async function follow(reading: Reading): Promise<void> {
  const { view } = reading;
  let from: string | null = null;
  let wasIn = false;
  let waitingFor: string | null = null;
  for (;;) {
    const failure: LlmnodeError | null = await readOnce(
      { ...reading, query: { ...reading.query, from } },
      {
        onEvents() {
          if (waitingFor !== null) view.remark(`(${reading.worker} is back)`);
          waitingFor = null;
          wasIn = true;
        },
        onPosition(position) {
          from = position;
        },
      },
    ).catch((error: unknown) => {
      const isPassing =
        error instanceof LlmnodeError &&
        (error.code === "upstream_unreachable" ||
          (wasIn && (PASSING.includes(error.code) || LEFT.includes(error.code))));
      if (isPassing) return error;
      return nameWorkers(error, reading);
    });
    if (failure === null) return;
    if (waitingFor !== failure.message) {
      view.remark(`(${failure.message}; waiting until it is back, Ctrl-C ends this)`);
    }
    waitingFor = failure.message;
    await Bun.sleep(RETRY_MS);
  }
}

interface Ears {
  /** Called for each piece that comes, with the number of its events. */
  onEvents(count: number): void;
  onPosition(position: string): void;
}

/**
 * Null at the end, or when nobody reads on; else why the log broke off. Throws where there is none.
 */
async function readOnce(
  { client, worker, query, view, out }: Reading,
  ears: Ears,
): Promise<LlmnodeError | null> {
  const ending = new AbortController();
  const path = `/api/v1/workers/logs?worker=${encodeURIComponent(worker)}&${formatLogQuery(query)}`;
  const response = await getStream(client, path, ending.signal);
  let silence: ReturnType<typeof setTimeout> | undefined;
  const hush = () => ending.abort();
  const beat = () => {
    clearTimeout(silence);
    silence = setTimeout(hush, SILENCE_MS);
  };
  beat();
  try {
    for await (const events of readLogEvents(response.body ?? new ReadableStream())) {
      // Not while the reader of what we print makes us wait.
      clearTimeout(silence);
      ears.onEvents(events.length);
      for (const event of events) {
        if (event.type === "error") return broke(event.code, event.message);
        if (event.type === "end") return null;
        view.show(event);
        if (event.type === "position") ears.onPosition(event.position);
      }
      await out.flush();
      if (out.isGone) return null;
      beat();
    }
    return broke("", `the connection to the head at ${client.url} broke`);
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    return broke("", `the connection to the head at ${client.url} broke: ${messageOf(error)}`);
  } finally {
    clearTimeout(silence);
    view.clear();
    ending.abort();
  }
}

function broke(code: string, message: string): LlmnodeError {
  return new LlmnodeError(PASSING.find((known) => known === code) ?? "upstream_broken", message);
}

function nameWorkers(error: unknown, { client, worker }: Reading): Promise<never> {
  return nameOthers(error, { client, command: "logs", words: [worker] });
}
