/** A head that says what a test wants it to say, by the contract of `protocol/watch-json.ts`. */

import type { WatchFrame, WatchHello, WatchQuery } from "../../src/protocol/watch-json.ts";
import type { View } from "../../src/protocol/watch-rows.ts";
import { cluster, frame, hello, replicas, type SampleCluster } from "./sample.ts";

export interface FakeHead extends AsyncDisposable {
  readonly url: string;
  /** The latest query of the latest stream. */
  readonly query: WatchQuery | null;
  /** What was posted, apart from queries. */
  readonly acts: { path: string; body: unknown }[];
  readonly streams: number;
  /** Of all streams, as they were opened. */
  readonly queries: WatchQuery[];
  /** How many queries were posted. */
  readonly posts: number;
  /** Put into every frame. */
  more: object;
  /** Knows its streams no more, though they go on. */
  forget(): void;
  sample: SampleCluster;
  id: string;
  /** Refuses streams with this status; null: it serves. */
  status: number | null;
  /** What an act is answered with; null: good. `last`: what a dry run says then. */
  refusal: { status: number; code: string; message: string; last?: string[] } | null;
  /** Put into every hello and frame. */
  schema: string | null;
  /** Sends a frame now. */
  push(more?: Partial<WatchFrame>): void;
  /** Whether frames come by themselves. */
  ticking: boolean;
  /** Ends all streams. */
  cut(): void;
}

const encoder = new TextEncoder();

export function startFakeHead(sample: SampleCluster = cluster(), port = 0): FakeHead {
  interface Stream {
    controller: ReadableStreamDefaultController<Uint8Array>;
    query: WatchQuery;
    frames: number;
    timer: ReturnType<typeof setInterval>;
  }
  const streams = new Map<string, Stream>();
  const acts: { path: string; body: unknown }[] = [];
  const queries: WatchQuery[] = [];
  let opened = 0;
  let posts = 0;
  let isForgetful = false;
  let latest: string | null = null;
  const started = Date.now();

  const send = (id: string, event: string, data: object) => {
    const stream = streams.get(id);
    if (!stream) return;
    try {
      stream.controller.enqueue(
        encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`),
      );
    } catch {
      end(id);
    }
  };
  const end = (id: string) => {
    const stream = streams.get(id);
    if (!stream) return;
    streams.delete(id);
    clearInterval(stream.timer);
    try {
      stream.controller.close();
    } catch {
      // Its reader has closed it.
    }
  };
  const withSchema = (data: object) =>
    self.schema === null ? data : { ...data, schema: self.schema };
  const push = (id: string, more: Partial<WatchFrame> = {}) => {
    const stream = streams.get(id);
    if (!stream) return;
    stream.frames += 1;
    const { query } = stream;
    const matching = chosen(self.sample, query);
    const named = ({ name }: { name: string }) => name === query.detail;
    const detail =
      query.view === "models" ? modelIn(self.sample, named) : workerIn(self.sample, named);
    send(
      id,
      "frame",
      withSchema({
        ...frame(matching, { view: query.view, offset: query.offset }),
        ...(query.view === "workers" && { total: self.sample.workers.length }),
        frame: stream.frames,
        time: new Date().toISOString(),
        head: {
          id: self.id,
          uptime_ms: Date.now() - started,
          cpu_percent: 4,
          memory_bytes: 182 * 1024 ** 2,
        },
        rows: allRows(matching, query.view).slice(
          query.offset,
          query.offset + query.limit,
        ) as WatchFrame["rows"],
        detail,
        ...self.more,
        ...more,
      }),
    );
  };

  const server = Bun.serve({
    port,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const url = new URL(request.url);
      if (self.status !== null) {
        return Response.json(
          { error: { message: "no key, no view", type: "x", param: null, code: "forbidden" } },
          { status: self.status },
        );
      }
      if (request.method === "POST") {
        const body: unknown = await request.json();
        const id = url.pathname.split("/").at(-1) ?? "";
        const isQuery = url.pathname.startsWith("/api/v1/watch/");
        if (isQuery) posts += 1;
        const stream = isQuery && !isForgetful ? streams.get(id) : undefined;
        if (isQuery && !stream) {
          isForgetful = false;
          return Response.json(
            { error: { message: "nobody", type: "x", param: null, code: "not_found" } },
            { status: 404 },
          );
        }
        if (stream) {
          stream.query = body as WatchQuery;
          push(id);
          return Response.json({});
        }
        acts.push({ path: url.pathname, body });
        const isDry = typeof body === "object" && body !== null && "dry_run" in body;
        if (self.refusal?.last && isDry)
          return Response.json({ last_replicas: self.refusal.last.map((name) => ({ name })) });
        if (self.refusal === null) return Response.json({ schema: "llmnode.admin/1" });
        const { status, code, message } = self.refusal;
        return Response.json({ error: { message, type: "x", param: null, code } }, { status });
      }
      if (url.pathname !== "/api/v1/watch") {
        return Response.json(
          { error: { message: "nothing here", type: "x", param: null, code: "not_found" } },
          { status: 404 },
        );
      }
      opened += 1;
      const id = `w${opened}`;
      latest = id;
      const query = queryIn(url.searchParams);
      queries.push(query);
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          const timer = setInterval(() => self.ticking && push(id), query.interval_ms);
          streams.set(id, { controller, query, frames: 0, timer });
          const greeting: WatchHello = { ...hello(), watch: id, query };
          const head = { ...greeting.head, id: self.id, time: new Date().toISOString() };
          send(id, "hello", withSchema({ ...greeting, head }));
          push(id);
        },
        cancel: () => end(id),
      });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    },
  });

  const self: FakeHead = {
    url: `http://127.0.0.1:${server.port}`,
    get query() {
      return latest === null ? null : (streams.get(latest)?.query ?? null);
    },
    acts,
    get streams() {
      return opened;
    },
    queries,
    get posts() {
      return posts;
    },
    more: {},
    forget() {
      isForgetful = true;
    },
    sample,
    id: "head-a",
    status: null,
    refusal: null,
    schema: null,
    ticking: true,
    push: (more) => [...streams.keys()].forEach((id) => push(id, more)),
    cut: () => [...streams.keys()].forEach(end),
    async [Symbol.asyncDispose]() {
      [...streams.keys()].forEach(end);
      await server.stop(true);
    },
  };
  return self;
}

function allRows(sample: SampleCluster, view: View) {
  return { ...sample, events: sample.events.toReversed() }[view];
}

function workerIn(sample: SampleCluster, named: (row: { name: string }) => boolean) {
  const worker = sample.workers.find(named);
  return worker ? { worker } : null;
}

function modelIn(sample: SampleCluster, named: (row: { name: string }) => boolean) {
  const model = sample.models.find(named);
  return model ? { model: { ...model, engines: replicas(model.name) } } : null;
}

/** Enough of filters for tests: a part of a worker's name or state. */
function chosen(sample: SampleCluster, { filter }: WatchQuery): SampleCluster {
  if (filter === "") return sample;
  const word = filter.split(":").at(-1) ?? "";
  return {
    ...sample,
    workers: sample.workers.filter(
      ({ name, state }) => name.includes(word) || state.includes(word),
    ),
  };
}

function queryIn(words: URLSearchParams): WatchQuery {
  return {
    view: (words.get("view") ?? "workers") as View,
    sort: words.get("sort") ?? "problems",
    filter: words.get("filter") ?? "",
    offset: Number(words.get("offset") ?? 0),
    limit: Number(words.get("limit") ?? 100),
    interval_ms: Number(words.get("interval_ms") ?? 1000),
    gone: words.has("gone"),
    models_beside: Number(words.get("models_beside") ?? 0),
    detail: words.get("detail"),
  };
}

if (import.meta.main) {
  const head = startFakeHead(cluster(), Number(process.argv[2] ?? 0));
  process.stdout.write(`${head.url}\n`);
}
