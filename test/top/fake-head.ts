/** A head that says what a test wants it to say, by the contract of `protocol/watch-json.ts`. */

import type { WatchFrame, WatchHello, WatchQuery } from "../../src/protocol/watch-json.ts";
import type { View } from "../../src/protocol/watch-rows.ts";
import { cluster, frame, hello, type SampleCluster } from "./sample.ts";

export interface FakeHead extends AsyncDisposable {
  readonly url: string;
  /** The latest query of the latest stream. */
  readonly query: WatchQuery | null;
  /** What was posted, apart from queries. */
  readonly acts: { path: string; body: unknown }[];
  readonly streams: number;
  sample: SampleCluster;
  id: string;
  /** Refuses streams with this status; null: it serves. */
  status: number | null;
  /** What an act is answered with; null: good. */
  refusal: { status: number; code: string; message: string } | null;
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
  let opened = 0;
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
  const push = (id: string, more: Partial<WatchFrame> = {}) => {
    const stream = streams.get(id);
    if (!stream) return;
    stream.frames += 1;
    const { query } = stream;
    const matching = chosen(self.sample, query);
    const wanted =
      query.detail === null
        ? undefined
        : self.sample.workers.find(({ name }) => name === query.detail);
    send(id, "frame", {
      ...frame(matching, { view: query.view, offset: query.offset }),
      frame: stream.frames,
      time: new Date().toISOString(),
      head: {
        id: self.id,
        uptime_ms: Date.now() - started,
        cpu_percent: 4,
        memory_bytes: 182 * 1024 ** 2,
      },
      detail: wanted ? { worker: wanted } : null,
      ...more,
    });
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
        const stream = url.pathname.startsWith("/api/v1/watch/") ? streams.get(id) : undefined;
        if (stream) {
          stream.query = body as WatchQuery;
          push(id);
          return Response.json({});
        }
        acts.push({ path: url.pathname, body });
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
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          const timer = setInterval(() => self.ticking && push(id), query.interval_ms);
          streams.set(id, { controller, query, frames: 0, timer });
          const greeting: WatchHello = { ...hello(), watch: id, query };
          send(id, "hello", {
            ...greeting,
            head: { ...greeting.head, id: self.id, time: new Date().toISOString() },
          });
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
    sample,
    id: "head-a",
    status: null,
    refusal: null,
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
