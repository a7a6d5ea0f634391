/** Ollama: models that load when they are first asked for, and streams of JSON lines. */

import os from "node:os";
import { isIP } from "node:net";
import { openAiRoute } from "../api/handle.ts";
import { anthropicName, messagesRoutes } from "../api/messages.ts";
import { failureOf } from "../core/refuse.ts";
import { responsesRoute } from "../api/responses.ts";
import {
  type Dialect,
  type Methods,
  ORDINARY,
  type Route,
  type RouteTable,
  type Served,
} from "../api/dialect.ts";
import { isLoopback, parseHostPort } from "../../util/host-port.ts";
import { embeddingsRoute } from "../api/embeddings.ts";
import { modelTable, VERSION, canonicalName, createMemory } from "./ollama-models.ts";
import { embedRoute, generateRoute } from "./ollama-native.ts";
import { ollamaError, ollamaStyle } from "./ollama-style.ts";
import { transcriptionRoute } from "../api/media.ts";

export const ollama: Dialect = {
  ...ORDINARY,
  loadLines: () => [],
  opensAt: 0,
  readyLines: (address) => [`Listening on ${address} (version ${VERSION})`],
  cutsAtStop: true,
  find: (named, models) =>
    models.find((model) => canonicalName(model) === canonicalName(named)) ?? null,
  failure: (error) => frameworkAnswer(error) ?? answerOf(error, { error: ollamaError(error) }),
  routes,
  adminRoutes: [
    "POST /api/pull",
    "POST /api/push",
    "POST /api/create",
    "POST /api/copy",
    "DELETE /api/delete",
  ],
};

/** gin's own answers for paths and methods that it does not have. */
function frameworkAnswer(error: unknown): Response | null {
  const { code, allow } = failureOf(error);
  if (code === "unknown_url") return new Response("404 page not found", { status: 404 });
  if (code !== "method_not_allowed") return null;
  return new Response("405 method not allowed", { status: 405, headers: { allow } });
}

function nativeFailure(error: unknown): Response {
  return frameworkAnswer(error) ?? answerOf(error, { error: ollamaError(error).message });
}

function answerOf(error: unknown, body: object): Response {
  const { status } = failureOf(error);
  // The refusal of a foreign host has no body.
  return status === 403 ? new Response(null, { status }) : Response.json(body, { status });
}

function routes(served: Served): RouteTable {
  const memory = createMemory(served.options);
  const lenient = { strictType: false, prepare: memory.load };
  const greeting = () => new Response("Ollama is running");
  const native = (methods: Methods): Methods => ({ ...methods, failure: nativeFailure });
  const json = (value: () => object) => native({ GET: () => Response.json(value()) });
  const models = modelTable(served, memory);

  const table: RouteTable = {
    "/": { GET: greeting, HEAD: greeting },
    "/api/version": json(() => ({ version: VERSION })),
    "/api/tags": json(models.tags),
    "/api/ps": json(models.running),
    "/api/show": native({ POST: models.show }),
    "/api/generate": native({ POST: generateRoute(served, memory, { chat: false }) }),
    "/api/chat": native({ POST: generateRoute(served, memory, { chat: true }) }),
    "/api/embed": native({ POST: embedRoute(served, memory, "input") }),
    "/api/embeddings": native({ POST: embedRoute(served, memory, "prompt") }),
    "/v1/models": { GET: () => Response.json(models.openAi()) },
    "/v1/models/*": { GET: models.openAiOne },
    "/v1/chat/completions": {
      POST: openAiRoute(served, { kind: "chat", style: ollamaStyle }, lenient),
    },
    "/v1/completions": {
      POST: openAiRoute(served, { kind: "completion", style: ollamaStyle }, lenient),
    },
    "/v1/embeddings": { POST: embeddingsRoute(served, lenient) },
    "/v1/responses": { POST: responsesRoute(served, lenient) },
    ...messagesRoutes(served, { nameOf: anthropicName, counts: false, ...lenient }),
    "/v1/audio/transcriptions": { POST: transcriptionRoute(served) },
  };
  const { host } = served.options;
  return isLoopback(host) ? guarded(table) : table;
}

/** Bound to loopback, it refuses callers that use a public name. */
function guarded(table: RouteTable): RouteTable {
  const guard =
    (route: Route): Route =>
    (req) =>
      isAllowedHost(req.headers.get("host") ?? "")
        ? route(req)
        : new Response(null, { status: 403 });
  return Object.fromEntries(
    Object.entries(table).map(([path, { GET, HEAD, POST, failure }]) => [
      path,
      {
        ...(GET ? { GET: guard(GET) } : {}),
        ...(HEAD ? { HEAD: guard(HEAD) } : {}),
        ...(POST ? { POST: guard(POST) } : {}),
        ...(failure ? { failure } : {}),
      },
    ]),
  );
}

/** The rule of allowedHostsMiddleware in server/routes.go; every plain address counts as local. */
function isAllowedHost(header: string): boolean {
  const host = parseHostPort(header, { host: "localhost", port: 80 })?.host.toLowerCase() ?? "";
  if (host === "localhost" || host === os.hostname().toLowerCase() || isIP(host) !== 0) return true;
  return [".localhost", ".local", ".internal"].some((end) => host.endsWith(end));
}
