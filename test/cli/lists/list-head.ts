/** A head that tells of the cluster that a test gives it, and commands that ask it in this process. */

import { chooseRows, orderRows, type Row } from "../../../src/cluster/rows/order.ts";
import { runCli } from "../../../src/cli/run.ts";
import { createOutput, type Terminal } from "../../../src/cli/base/terminal.ts";
import type { StatusJson } from "../../../src/protocol/watch-json.ts";
import type {
  EventRow,
  ModelRow,
  RequestRow,
  WorkerRow,
} from "../../../src/protocol/watch-rows.ts";
import { frame } from "../../top/sample.ts";

export interface Told {
  workers: WorkerRow[];
  models: ModelRow[];
  requests: RequestRow[];
  events: EventRow[];
  /** As `GET /api/v1/status`, without its schema and head. */
  status: Pick<StatusJson, "workers" | "models" | "services">;
}

export function nothing(): Told {
  return {
    workers: [],
    models: [],
    requests: [],
    events: [],
    status: { workers: [], models: [], services: [] },
  };
}

export interface ListHead extends AsyncDisposable {
  readonly url: string;
  told: Told;
  /** Paths that were asked for, with their words. */
  readonly asked: string[];
  /** How long answers take. */
  delayMs: number;
  /** Instead of what was asked for. */
  answer: (() => Response) | null;
}

const HEAD = { id: "head-a", version: "0.1.0", time: "2026-02-03T14:02:31.000Z" };

export function startListHead(told: Partial<Told> = {}): ListHead {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      const { pathname, search, searchParams } = new URL(request.url);
      self.asked.push(pathname + search);
      if (self.delayMs > 0) await Bun.sleep(self.delayMs);
      if (self.answer !== null) return self.answer();
      switch (pathname) {
        case "/api/v1/watch":
          return watch(self.told, searchParams);
        case "/api/v1/status":
          return Response.json({ schema: "llmnode.status/2", head: HEAD, ...self.told.status });
        case "/api/v1/requests": {
          const rows = chosen("requests", self.told.requests, searchParams);
          const total = self.told.requests.length;
          return Response.json({ schema: "llmnode.requests/1", head: HEAD, total, requests: rows });
        }
        case "/api/v1/events": {
          const after = Number(searchParams.get("after") ?? 0);
          const limit = Number(searchParams.get("limit") ?? 10_000);
          const rows = self.told.events.filter(({ id }) => id > after).slice(-limit);
          return Response.json({ schema: "llmnode.events/1", head: HEAD, events: rows });
        }
        case "/api/v1/requests/cancel": {
          const { id } = (await request.json()) as { id: string };
          const isThere = self.told.requests.some((row) => row.id === id);
          if (isThere) return Response.json({ request: { id } });
          return refusal(404, "not_found", "There is no such request, or it has ended.");
        }
        default:
          return refusal(404, "unknown_url", "nothing here");
      }
    },
  });
  const self: ListHead = {
    url: `http://127.0.0.1:${server.port}`,
    told: { ...nothing(), ...told },
    asked: [],
    delayMs: 0,
    answer: null,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
  return self;
}

export function refusal(status: number, code: string, message: string): Response {
  return Response.json({ error: { message, type: "x", param: null, code } }, { status });
}

function chosen<R extends Row>(
  view: "workers" | "models" | "requests" | "events",
  rows: readonly R[],
  words: URLSearchParams,
): R[] {
  return orderRows(
    view,
    chooseRows(view, rows, words.get("filter") ?? ""),
    words.get("sort") ?? "",
  );
}

/** One frame; the stream then stays open, as a head's does. */
function watch(told: Told, words: URLSearchParams): Response {
  const view = words.get("view") === "models" ? "models" : "workers";
  const gone = words.has("gone");
  const all =
    view === "models" ? told.models : told.workers.filter(({ state }) => gone || state !== "left");
  const rows = chosen<WorkerRow | ModelRow>(view, all, words);
  const name = words.get("detail");
  const worker = told.workers.find((row) => row.name === name);
  const model = told.models.find((row) => row.name === name);
  const sent = {
    ...frame({ workers: told.workers, models: told.models, requests: [], events: [] }, { view }),
    head: { id: HEAD.id, uptime_ms: 1000, cpu_pct: null, mem_used_bytes: null },
    time: HEAD.time,
    total: all.length,
    matching: rows.length,
    rows: rows.slice(0, Number(words.get("limit") ?? 100)) as WorkerRow[],
    detail:
      view === "workers" && worker ? { worker } : view === "models" && model ? { model } : null,
  };
  const text = `event: hello\ndata: {}\n\nevent: frame\ndata: ${JSON.stringify(sent)}\n\n`;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(text)),
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Of a terminal; default: a pipe. */
  columns?: number;
  /** Gets each piece of standard output. */
  onOutput?: (text: string) => void;
}

/** Runs a command line in this process against a head. */
export async function run(
  head: { url: string },
  words: readonly string[],
  { env = {}, columns, onOutput }: RunOptions = {},
): Promise<Ran> {
  let stdout = "";
  let stderr = "";
  const into = (add: (text: string) => void) =>
    createOutput({ write: (text) => add(String(text)), flush: () => 0 });
  const terminal: Terminal = {
    out: into((text) => {
      stdout += text;
      onOutput?.(text);
    }),
    err: into((text) => void (stderr += text)),
    outIsTty: columns !== undefined,
    errIsTty: false,
    columns: columns ?? null,
    color: false,
  };
  // No home, so that nothing of the person who runs the tests counts.
  const surroundings = { HOME: "/dev/null/home", LLMNODE_HEAD: head.url, ...env };
  const code = await runCli(words, surroundings, terminal);
  return { code, stdout, stderr };
}
