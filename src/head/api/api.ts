/** Routes what arrives at the head's HTTP port to the proxy, the lists, health and status. */

import type { ProxyCall } from "../../proxy/request/context.ts";
import { statusJson } from "../../cluster/rows/snapshot.ts";
import type { Catalog, ClusterState } from "../../cluster/state/state.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { hasRole } from "../../protocol/caller.ts";
import { noSuchModel } from "../../proxy/request/allowed.ts";
import { errorResponse } from "../../proxy/record/error-answer.ts";
import { requestIdOf } from "../../proxy/request/headers.ts";
import type { Proxy } from "../../proxy/proxy.ts";
import { DEBUG_ROUTE } from "../../proxy/record/recording.ts";
import { type Dialect, type Route, routesAt } from "../../proxy/request/routes.ts";
import type { ServiceProxy } from "../../proxy/service/service.ts";
import type { Log } from "../../util/log.ts";
import type { Access } from "../access/access.ts";
import type { AddressLimit } from "../quota/address-limit.ts";
import type { Admin } from "../admin/admin.ts";
import type { ListedAliases } from "../store/aliases.ts";
import { notAllowed, nothingAt, stopping, tooMany } from "../http/errors.ts";
import type { Identity } from "../access/auth.ts";
import { allowOrigin, preflight } from "../http/cors.ts";
import { dntTable } from "./dnt-table.ts";
import type { Logs } from "./logs.ts";
import { streamTest } from "../http/stream-test.ts";
import { modelCard, modelCards } from "./models.ts";
import type { OllamaLists } from "./ollama-lists.ts";
import { decode, readPath, type RequestPath } from "../http/paths.ts";
import type { Part } from "../access/roles.ts";
import type { Views } from "../watch/views.ts";
import { viewAt } from "../watch/views-api.ts";

export interface ApiOptions {
  state: ClusterState;
  catalog: () => Catalog;
  aliases: ListedAliases;
  proxy: Proxy;
  services: ServiceProxy;
  ollamaLists: OllamaLists;
  /** Who asks, and what they may. */
  access: Access;
  /** What operators ask for. */
  admin: Admin;
  /** What engines print. */
  logs: Logs;
  /** What people look at. */
  views: Views;
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

export function createApi(options: ApiOptions, part: Part = "all"): Api {
  const { access } = options;
  return async (request, connection) => {
    const requestId = requestIdOf(request.headers);
    const identity = access.identify(request, connection.requestIP(request)?.address ?? "");
    let response: Response;
    try {
      const path = readPath(request.url);
      const incoming = { request, connection, requestId, path, identity, part };
      response = preflight(request, options.corsOrigin) ?? (await route(options, incoming));
    } catch (error) {
      response = failed(options, error, requestId);
    }
    if (identity.problem) response = await access.heldBack(identity, response, request.signal);
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
  identity: Identity;
  part: Part;
}

/** Throws, or rejects. Not async, as what is called for nearly all requests: each such layer costs. */
function route(options: ApiOptions, incoming: Incoming): Response | Promise<Response> {
  const { request, path } = incoming;
  const { service } = path;
  // First: a service may have paths of its own that are the head's elsewhere.
  if (service !== null) {
    return pass(options, incoming, {
      dialect: "openai",
      send: (call) => options.services(request, { ...call, service }),
    });
  }
  const routes = routesAt(path.pathname);
  // Nearly all requests, and none of what follows is at these paths.
  if (routes.length > 0) return infer(options, incoming, routes);
  const admin = options.admin(request, path.pathname);
  if (admin) {
    requirePart(options, incoming);
    return admin({ ...incoming, search: path.search });
  }
  const view = viewAt(options.views, {
    request,
    pathname: path.pathname,
    search: path.search,
    role: viewerRole(incoming.identity),
    keepOpen: () => incoming.connection.timeout(request, 0),
    onEnd: () => incoming.connection.timeout(request, options.idleTimeoutS),
  });
  if (view) {
    requireAccess(options, incoming);
    return view();
  }
  return own(options, incoming);
}

/** The routes at a path that engines answer. */
function infer(
  options: ApiOptions,
  incoming: Incoming,
  routes: readonly Route[],
): Response | Promise<Response> {
  const { request, path } = incoming;
  const method = request.method === "HEAD" ? "GET" : request.method;
  const inference = routes.find((route) => route.method === method);
  if (!inference) {
    const allow = routes.map((route) => route.method).join(", ");
    return errorResponse(notAllowed(request, path.pathname, allow), routes[0]?.dialect);
  }
  return pass(options, incoming, {
    dialect: inference.dialect,
    send: (call) => options.proxy(request, { ...call, route: inference }),
  });
}

/** What is not the head's to answer, within the head's limits. */
function pass(
  options: ApiOptions,
  incoming: Incoming,
  to: { dialect: Dialect; send: (call: Omit<ProxyCall, "route">) => Promise<Response> },
): Response | Promise<Response> {
  const { request, connection, requestId, path, identity } = incoming;
  if (incoming.part === "operators") return errorResponse(nothingAt(path.pathname), to.dialect);
  if (options.draining()) return errorResponse(stopping(), to.dialect);
  const worker = path.worker ?? request.headers.get("x-llmnode-worker");
  const explained = request.headers.has(DEBUG_ROUTE);
  const refused = options.access.client(identity, { pinned: worker !== null, explained });
  if (refused) return errorResponse(refused, to.dialect);
  const { caller } = identity;
  // Given back when the request's record is complete.
  if (!options.addressLimit.take(caller.address)) return errorResponse(tooMany(), to.dialect);
  // Engines may be silent for minutes before the first token; our own rules end a request.
  connection.timeout(request, 0);
  return to.send({
    path: `${path.pathname}${path.search}`,
    requestId,
    clientAddress: caller.address,
    caller,
    worker,
    onBug: (error) => logged(options, error, requestId),
    // The lifted limit would stay with the connection, and keep dead clients' ones open for ever.
    onEnd: () => connection.timeout(request, options.idleTimeoutS),
  });
}

/** The head's own resources. Throws `unknown_url`, `method_not_allowed`. */
function own(options: ApiOptions, incoming: Incoming): Response | Promise<Response> {
  const { request, path } = incoming;
  const resource = resourceAt(options, incoming);
  if (!resource) throw nothingAt(path.pathname);
  if (request.method !== "GET" && request.method !== "HEAD") {
    throw notAllowed(request, path.pathname, "GET, HEAD");
  }
  requireAccess(options, incoming);
  return resource();
}

function resourceAt(
  options: ApiOptions,
  incoming: Incoming,
): (() => Response | Promise<Response>) | null {
  const { state, catalog, aliases, head, now } = options;
  const { pathname } = incoming.path;
  switch (pathname) {
    case "/v1/models":
      return () => {
        const cards = modelCards(catalog(), aliases).filter(({ id }) => allows(incoming, id));
        return Response.json({ object: "list", data: cards });
      };
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
      return () => options.ollamaLists(pathname, (model) => allows(incoming, model));
    case "/metrics":
      return options.metrics;
    case "/v1/dnt/table":
      return () => Response.json(dntTable(state, head, now()));
    case "/api/v1/status":
      return () => Response.json(statusJson({ state, catalog: catalog() }, head, now()));
    case "/api/v1/workers/logs":
      return () => readLogs(options, incoming);
    case "/v1/realtime":
      return () => {
        throw new LlmnodeError(
          "not_supported",
          "Realtime sessions by WebSocket are not supported.",
        );
      };
    default:
      return pathname.startsWith("/v1/models/") ? () => oneModel(options, incoming) : null;
  }
}

function readLogs(options: ApiOptions, incoming: Incoming): Promise<Response> {
  const { request, connection, path } = incoming;
  if (request.method !== "GET") throw notAllowed(request, path.pathname, "GET");
  // A quiet engine prints nothing for hours.
  connection.timeout(request, 0);
  return options.logs.read(request, path.search, () =>
    connection.timeout(request, options.idleTimeoutS),
  );
}

function oneModel({ catalog, aliases }: ApiOptions, incoming: Incoming): Response {
  const id = decode(incoming.path.pathname.slice("/v1/models/".length));
  const card = allows(incoming, id) ? modelCard(catalog(), aliases, id) : null;
  if (card) return Response.json(card);
  throw noSuchModel(id);
}

/** Whether who asks may know of a model. */
function allows({ identity }: Incoming, model: string): boolean {
  return identity.caller.key?.allows(model) ?? true;
}

/** Throws for those who may not have what the head answers itself. */
function requireAccess(options: ApiOptions, incoming: Incoming): void {
  requirePart(options, incoming);
  const { request, path, identity } = incoming;
  const refused = options.access.own(identity, { ...path, method: request.method });
  if (refused) throw refused;
}

/** With `--admin-listen` the clients' port knows nothing of what is for operators. */
function requirePart({ access }: ApiOptions, { request, path, part }: Incoming): void {
  const { method } = request;
  if (!access.isServedAt(part, { ...path, method })) throw nothingAt(path.pathname);
}

function viewerRole({ caller }: Identity): "viewer" | "operator" {
  return hasRole(caller, "operator") ? "operator" : "viewer";
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
