/** Routes what arrives at the head's HTTP port to the proxy, the lists, health and status. */

import type { Catalog } from "../cluster/catalog.ts";
import { statusJson } from "../cluster/snapshot.ts";
import type { ClusterState } from "../cluster/state.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { errorResponse } from "../proxy/error-answer.ts";
import { requestIdOf } from "../proxy/headers.ts";
import type { Proxy, ProxyCall } from "../proxy/proxy.ts";
import { KEEP_ALIVE } from "../proxy/relay.ts";
import { type Dialect, ROUTES } from "../proxy/routes.ts";
import type { ServiceProxy } from "../proxy/service.ts";
import { isLoopback } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import type { AddressLimit } from "./address-limit.ts";
import { type Admin, requireOperator } from "./admin.ts";
import { allowOrigin, preflight } from "./cors.ts";
import { dntTable } from "./dnt-table.ts";
import type { Logs } from "./logs.ts";
import { modelCard, modelCards } from "./models.ts";
import type { OllamaLists } from "./ollama-lists.ts";
import { decode, readPath, type RequestPath } from "./paths.ts";

export interface ApiOptions {
  state: ClusterState;
  catalog: () => Catalog;
  proxy: Proxy;
  services: ServiceProxy;
  ollamaLists: OllamaLists;
  /** What operators ask for; answered on the head's own machine only. */
  admin: Admin;
  /** What engines print; as for operators. */
  logs: Logs;
  metrics: () => Response | Promise<Response>;
  head: { id: string; version: string };
  now: () => number;
  log: Log;
  /** Whether the head is about to stop. */
  draining: () => boolean;
  /** What `/health/ready` says: no, from the first word of a stop on. */
  ready: () => boolean;
  /** The origin whose pages may call, `*` for any, null for none. */
  corsOrigin: string | null;
  /** Whether `/metrics` is for everybody. */
  metricsOpen: boolean;
  addressLimit: AddressLimit;
  /** Silence after which a connection without a running request is closed. */
  idleTimeoutS: number;
}

/** The part of `Bun.serve`'s server that a request needs. */
export interface Connection {
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { address: string } | null;
}

export type Api = (request: Request, connection: Connection) => Promise<Response>;

export function createApi(options: ApiOptions): Api {
  return async (request, connection) => {
    const requestId = requestIdOf(request.headers);
    let response: Response;
    try {
      const incoming = { request, connection, requestId, path: readPath(request.url) };
      response = preflight(request, options.corsOrigin) ?? (await route(options, incoming));
    } catch (error) {
      response = failed(options, error, requestId);
    }
    response.headers.set("x-request-id", requestId);
    allowOrigin(response.headers, request, options.corsOrigin);
    if (options.draining()) response.headers.set("connection", "close");
    return response;
  };
}

interface Incoming {
  request: Request;
  connection: Connection;
  requestId: string;
  path: RequestPath;
}

async function route(options: ApiOptions, incoming: Incoming): Promise<Response> {
  const { request, path } = incoming;
  const { service } = path;
  // First: a service may have paths of its own that are the head's elsewhere.
  if (service !== null) {
    return await pass(options, incoming, {
      dialect: "openai",
      send: (call) => options.services(request, { ...call, service }),
    });
  }
  const inference = ROUTES.get(path.pathname);
  const admin = options.admin(request, path.pathname);
  if (admin) {
    requireLoopback(incoming);
    return await admin();
  }
  if (!inference) return await own(options, incoming);
  const { dialect, method } = inference;
  const isRead = method === "GET" && request.method === "HEAD";
  if (request.method !== method && !isRead) {
    return errorResponse(notAllowed(request, path.pathname, method), dialect);
  }
  return await pass(options, incoming, {
    dialect,
    send: (call) => options.proxy(request, { ...call, route: inference }),
  });
}

/** What is not the head's to answer, within the head's limits. */
async function pass(
  options: ApiOptions,
  incoming: Incoming,
  to: { dialect: Dialect; send: (call: Omit<ProxyCall, "route">) => Promise<Response> },
): Promise<Response> {
  if (options.draining()) return errorResponse(stopping(), to.dialect);
  const address = addressOf(incoming);
  // Given back when the request's record is complete.
  if (!options.addressLimit.take(address)) return errorResponse(tooMany(), to.dialect);
  const { request, connection, requestId, path } = incoming;
  // Engines may be silent for minutes before the first token; our own rules end a request.
  connection.timeout(request, 0);
  return await to.send({
    path: `${path.pathname}${path.search}`,
    requestId,
    clientAddress: address,
    worker: path.worker ?? request.headers.get("x-llmnode-worker"),
    onBug: (error) => logged(options, error, requestId),
    // The lifted limit would stay with the connection, and keep dead clients' ones open for ever.
    onEnd: () => connection.timeout(request, options.idleTimeoutS),
  });
}

/** The head's own resources. Throws `unknown_url`, `method_not_allowed`. */
async function own(options: ApiOptions, incoming: Incoming): Promise<Response> {
  const { request, path } = incoming;
  const resource = resourceAt(options, incoming);
  if (!resource) {
    throw new LlmnodeError("unknown_url", `There is nothing at ${path.pathname.slice(0, 200)}.`);
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    throw notAllowed(request, path.pathname, "GET, HEAD");
  }
  return await resource();
}

function resourceAt(
  options: ApiOptions,
  incoming: Incoming,
): (() => Response | Promise<Response>) | null {
  const { state, catalog, head, now } = options;
  const { pathname } = incoming.path;
  switch (pathname) {
    case "/v1/models":
      return () => Response.json({ object: "list", data: modelCards(catalog()) });
    case "/health/live":
      return () => Response.json({ status: "live" });
    case "/health/ready":
      return () => {
        if (!options.ready()) throw stopping();
        return Response.json({ status: "ready" });
      };
    case "/health/stream":
      return streamTest;
    case "/api/tags":
    case "/api/ps":
      return () => options.ollamaLists(pathname);
    case "/metrics":
      return () => {
        if (!options.metricsOpen) requireLoopback(incoming);
        return options.metrics();
      };
    case "/v1/dnt/table":
      return () => {
        requireLoopback(incoming);
        return Response.json(dntTable(state, head, now()));
      };
    case "/api/v1/status":
      return () => {
        requireLoopback(incoming);
        return Response.json(statusJson({ state, catalog: catalog() }, head, now()));
      };
    case "/api/v1/workers/logs":
      return () => {
        requireLoopback(incoming);
        return readLogs(options, incoming);
      };
    case "/v1/realtime":
      return () => {
        throw new LlmnodeError(
          "not_supported",
          "Realtime sessions by WebSocket are not supported.",
        );
      };
    default:
      return pathname.startsWith("/v1/models/") ? () => oneModel(catalog(), pathname) : null;
  }
}

function readLogs(options: ApiOptions, incoming: Incoming): Promise<Response> {
  const { request, connection, path } = incoming;
  requireOperator(request);
  if (request.method !== "GET") throw notAllowed(request, path.pathname, "GET");
  // A quiet engine prints nothing for hours.
  connection.timeout(request, 0);
  return options.logs.read(request, path.search, () =>
    connection.timeout(request, options.idleTimeoutS),
  );
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

function oneModel(catalog: Catalog, pathname: string): Response {
  const id = decode(pathname.slice("/v1/models/".length));
  const card = modelCard(catalog, id);
  if (card) return Response.json(card);
  const name = JSON.stringify(id.slice(0, 200));
  throw new LlmnodeError("model_not_found", `The model ${name} does not exist.`);
}

function addressOf({ request, connection }: Incoming): string {
  return connection.requestIP(request)?.address ?? "";
}

/** What reveals names and addresses is for people on this machine, until there are keys. */
function requireLoopback(incoming: Incoming): void {
  if (isLoopback(addressOf(incoming))) return;
  const message = "This is answered on the head's own machine only.";
  throw new LlmnodeError("forbidden", message);
}

function failed(options: ApiOptions, error: unknown, requestId: string): Response {
  return errorResponse(error instanceof LlmnodeError ? error : logged(options, error, requestId));
}

/** What the client is told of a bug that only the log explains. */
function logged(options: ApiOptions, error: unknown, requestId: string): LlmnodeError {
  options.log.error("internal error", {
    request_id: requestId,
    error: messageOf(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
  const message = `The head failed on this request; its log says why under ${requestId}.`;
  return new LlmnodeError("internal", message);
}

function notAllowed(request: Request, pathname: string, allow: string): LlmnodeError {
  const message = `${request.method} is not possible at ${pathname.slice(0, 200)}.`;
  return new LlmnodeError("method_not_allowed", message, { allow });
}

function stopping(): LlmnodeError {
  return new LlmnodeError("shutting_down", "The head is stopping.", { retryAfterMs: 1000 });
}

function tooMany(): LlmnodeError {
  const message = "Too many requests are running from this address.";
  return new LlmnodeError("rate_limited", message, { retryAfterMs: 1000 });
}
