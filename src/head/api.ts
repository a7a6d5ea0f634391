/** Routes what arrives at the head's HTTP port to the proxy, the model list, health and status. */

import type { Catalog } from "../cluster/catalog.ts";
import { statusJson } from "../cluster/snapshot.ts";
import type { ClusterState } from "../cluster/state.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { requestIdOf } from "../proxy/headers.ts";
import { errorResponse } from "../proxy/openai.ts";
import type { Proxy } from "../proxy/proxy.ts";
import { isLoopback } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import { modelCards } from "./models.ts";

export interface ApiOptions {
  state: ClusterState;
  catalog: () => Catalog;
  proxy: Proxy;
  head: { id: string; version: string };
  now: () => number;
  log: Log;
  /** Whether the head is about to stop. */
  draining: () => boolean;
}

/** The part of `Bun.serve`'s server that a request needs. */
export interface Connection {
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { address: string } | null;
}

export type Api = (request: Request, connection: Connection) => Promise<Response>;

/** JSON routes that an engine answers, by allow-list: its administration is never reachable. */
const INFERENCE: ReadonlySet<string> = new Set([
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/responses",
  "/v1/messages",
  "/v1/messages/count_tokens",
  "/v1/rerank",
  "/v1/score",
  "/v1/classify",
  "/v1/audio/speech",
  "/v1/images/generations",
  "/v1/moderations",
  "/v1/tokenize",
  "/v1/detokenize",
]);

export function createApi(options: ApiOptions): Api {
  return async (request, connection) => {
    const requestId = requestIdOf(request.headers);
    let response: Response;
    try {
      response = await route(options, { request, connection, requestId });
    } catch (error) {
      response = failed(options, error, requestId);
    }
    response.headers.set("x-request-id", requestId);
    return response;
  };
}

interface Incoming {
  request: Request;
  connection: Connection;
  requestId: string;
}

async function route(options: ApiOptions, incoming: Incoming): Promise<Response> {
  const { request, connection, requestId } = incoming;
  const { pathname, search } = splitUrl(request.url);
  if (INFERENCE.has(pathname)) {
    if (request.method !== "POST") throw notAllowed(request.method, pathname, "POST");
    if (options.draining()) throw stopping();
    // Engines may be silent for minutes before the first token; our own rules end a request.
    connection.timeout(request, 0);
    return await options.proxy(request, { path: `${pathname}${search}`, requestId });
  }
  const answer = answerTo(options, incoming, pathname);
  if (request.method !== "GET" && request.method !== "HEAD") {
    throw notAllowed(request.method, pathname, "GET, HEAD");
  }
  return answer();
}

/** The head's own resources. Throws `unknown_url`. */
function answerTo(options: ApiOptions, incoming: Incoming, pathname: string): () => Response {
  if (pathname === "/v1/models") {
    return () => Response.json({ object: "list", data: modelCards(options.catalog()) });
  }
  if (pathname.startsWith("/v1/models/")) return () => oneModel(options, pathname);
  if (pathname === "/health/live") return () => Response.json({ status: "live" });
  if (pathname === "/health/ready") {
    return () => {
      if (options.draining()) throw stopping();
      return Response.json({ status: "ready" });
    };
  }
  if (pathname === "/api/v1/status") {
    return () => {
      const { state, catalog, head, now } = options;
      requireLoopback(incoming);
      return Response.json(statusJson({ state, catalog: catalog() }, head, now()));
    };
  }
  throw new LlmnodeError("unknown_url", `There is nothing at ${pathname.slice(0, 200)}.`);
}

function oneModel(options: ApiOptions, pathname: string): Response {
  let id: string;
  try {
    id = decodeURIComponent(pathname.slice("/v1/models/".length));
  } catch {
    throw new LlmnodeError("bad_request", "The model's name in the path is badly encoded.");
  }
  const card = modelCards(options.catalog()).find((model) => model.id === id);
  if (card) return Response.json(card);
  const name = JSON.stringify(id.slice(0, 200));
  throw new LlmnodeError("model_not_found", `The model ${name} does not exist.`);
}

/** What reveals names and addresses is for people on this machine, until there are keys. */
function requireLoopback({ request, connection }: Incoming): void {
  const address = connection.requestIP(request)?.address ?? "";
  if (isLoopback(address)) return;
  const message = "This is answered on the head's own machine only.";
  throw new LlmnodeError("forbidden", message);
}

function failed(options: ApiOptions, error: unknown, requestId: string): Response {
  if (error instanceof LlmnodeError) return errorResponse(error);
  options.log.error("internal error", {
    request_id: requestId,
    error: messageOf(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
  const message = `The head failed on this request; its log says why under ${requestId}.`;
  return errorResponse(new LlmnodeError("internal", message));
}

function notAllowed(method: string, pathname: string, allow: string): LlmnodeError {
  return new LlmnodeError("method_not_allowed", `${method} is not possible at ${pathname}.`, {
    allow,
  });
}

function stopping(): LlmnodeError {
  return new LlmnodeError("shutting_down", "The head is stopping.", { retryAfterMs: 1000 });
}

/** The path as it was sent, which `new URL` would normalise, and the query with its mark. */
function splitUrl(url: string): { pathname: string; search: string } {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  const path = start === -1 ? "/" : url.slice(start);
  const mark = path.indexOf("?");
  return mark === -1
    ? { pathname: path, search: "" }
    : { pathname: path.slice(0, mark), search: path.slice(mark) };
}
