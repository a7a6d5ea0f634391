/** What the head answers itself to clients and to what watches over it: health, lists, status, metrics. */

import type { Catalog, ClusterState } from "../../cluster/state/state.ts";
import type { Caller } from "../../protocol/caller.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { KEEP_ALIVE } from "../../proxy/answer/relay.ts";
import { noSuchModel } from "../../proxy/request/context.ts";
import { stopping } from "../http/errors.ts";
import { jsonAnswer, jsonChunks, listAnswer, oneForAll } from "../http/lists.ts";
import { decode } from "../http/paths.ts";
import type { HeadRoute } from "../http/route-table.ts";
import type { ListedAliases } from "../store/aliases.ts";
import { dntTable } from "./dnt-table.ts";
import type { LogService } from "./logs.ts";
import { modelCard, modelCards } from "./models.ts";
import type { OllamaLists } from "./ollama-lists.ts";

export interface OwnRoutesOptions {
  state: ClusterState;
  catalog: () => Catalog;
  aliases: ListedAliases;
  ollamaLists: OllamaLists;
  /** What engines print. */
  logs: LogService;
  metrics: () => Response | Promise<Response>;
  head: { id: string; version: string };
  now: () => number;
  /** What `/health/ready` says: no, from the first word of a stop on. */
  ready: () => boolean;
}

const READ = ["GET", "HEAD"] as const;

export function ownRoutes(options: OwnRoutesOptions): HeadRoute[] {
  return [...healthRoutes(options), ...modelRoutes(options), ...statusRoutes(options)];
}

function healthRoutes({ ready }: OwnRoutesOptions): HeadRoute[] {
  const forAll = { methods: READ, audience: "everyone" } as const;
  return [
    { ...forAll, path: "/health/live", handle: () => Response.json({ status: "live" }) },
    {
      ...forAll,
      path: "/health/ready",
      handle() {
        if (!ready()) throw stopping();
        return Response.json({ status: "ready" });
      },
    },
    { ...forAll, path: "/health/stream", handle: streamTest },
    {
      ...forAll,
      path: "/v1/realtime",
      handle() {
        const message = "Realtime sessions by WebSocket are not supported.";
        throw new LlmnodeError("not_supported", message);
      },
    },
  ];
}

function modelRoutes({ catalog, aliases, ollamaLists }: OwnRoutesOptions): HeadRoute[] {
  const forClients = { methods: READ, audience: "client" } as const;
  return [
    {
      ...forClients,
      path: "/v1/models",
      handle({ caller }) {
        const data = modelCards(catalog(), aliases).filter(({ id }) => allows(caller, id));
        return listAnswer(Object.entries({ object: "list", data }));
      },
    },
    {
      ...forClients,
      path: "/v1/models/*",
      handle({ path, caller }) {
        const id = decode(path.pathname.slice("/v1/models/".length));
        const card = allows(caller, id) ? modelCard(catalog(), aliases, id) : null;
        if (card) return Response.json(card);
        throw noSuchModel(id);
      },
    },
    ...(["/api/tags", "/api/ps"] as const).map((path) => ({
      ...forClients,
      path,
      handle: ({ caller }: { caller: Caller }) =>
        ollamaLists(path, (model) => allows(caller, model)),
    })),
  ];
}

/** They tell names and addresses of machines. */
function statusRoutes(options: OwnRoutesOptions): HeadRoute[] {
  const { state, head, now, logs, metrics } = options;
  const forViewers = { methods: READ, audience: "viewer" } as const;
  const table = oneForAll(() => jsonChunks(dntTable(state, head, now())));
  return [
    { ...forViewers, path: "/metrics", openedBy: "metrics", handle: metrics },
    {
      ...forViewers,
      path: "/v1/dnt/table",
      handle: async () => jsonAnswer(await table()),
    },
    {
      methods: ["GET"],
      path: "/api/v1/workers/logs",
      audience: "viewer",
      handle({ request, path, keepOpen, onEnd }) {
        // A quiet engine prints nothing for hours.
        keepOpen();
        return logs.read(request, path.search, onEnd);
      },
    },
  ];
}

/** Whether the caller may know of a model. */
function allows({ key }: Caller, model: string): boolean {
  return key?.allows(model) ?? true;
}

/** How long after the first comment of `/health/stream` the second one is due. */
const STREAM_TEST_MS = 500;

/**
 * One comment at once and one later, as the streams of engines are sent: when both arrive together,
 * something between head and client holds streams back.
 */
function streamTest(): Response {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(KEEP_ALIVE);
      timer = setTimeout(() => {
        controller.enqueue(KEEP_ALIVE);
        controller.close();
      }, STREAM_TEST_MS);
    },
    cancel: () => clearTimeout(timer),
  });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}
