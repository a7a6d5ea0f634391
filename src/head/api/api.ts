/** Routes what arrives at the head's HTTP port to the proxy, the lists, health and status. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { ProxyCall } from "../../proxy/request/context.ts";
import type { Proxy } from "../../proxy/proxy.ts";
import { errorResponse } from "../../proxy/record/error-answer.ts";
import { DEBUG_ROUTE } from "../../proxy/record/recording.ts";
import { requestIdOf } from "../../proxy/request/headers.ts";
import { type Dialect, type Route, routesAt } from "../../proxy/request/routes.ts";
import type { ServiceProxy } from "../../proxy/service/service.ts";
import type { Log } from "../../util/log.ts";
import type { Access, Part } from "../access/access.ts";
import type { Identity } from "../access/auth.ts";
import { allowOrigin, preflight } from "../http/cors.ts";
import { notAllowed, nothingAt, stopping, tooMany } from "../http/errors.ts";
import { readPath, type RequestPath } from "../http/paths.ts";
import type { RouteTable } from "../http/route-table.ts";
import type { AddressLimit } from "../quota/limits.ts";

export interface ApiOptions {
  proxy: Proxy;
  services: ServiceProxy;
  /** What the head answers itself. */
  routesAt: RouteTable;
  /** Who asks, and what they may. */
  access: Access;
  log: Log;
  /** Whether the head is about to stop. */
  draining: () => boolean;
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
  // Nearly all requests; none of the head's own routes is at these paths.
  if (routes.length > 0) return infer(options, incoming, routes);
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

/** What the head answers itself. Throws `unknown_url`, `method_not_allowed`, what access throws. */
function own(options: ApiOptions, incoming: Incoming): Response | Promise<Response> {
  const { access } = options;
  const { request, connection, requestId, path, identity, part } = incoming;
  const { pathname, search } = path;
  // With `--admin-listen` the clients' port knows nothing of what is for operators.
  const routes = options
    .routesAt(pathname)
    .filter((route) => access.isServedAt(part, route, search));
  if (routes.length === 0) throw nothingAt(pathname);
  const route = routes.find(({ methods }) => methods.some((method) => method === request.method));
  if (!route) {
    const allow = routes.flatMap(({ methods }) => methods).join(", ");
    throw notAllowed(request, pathname, allow);
  }
  const refused = access.own(identity, route, search);
  if (refused) throw refused;
  return route.handle({
    request,
    path,
    caller: identity.caller,
    requestId,
    keepOpen: () => connection.timeout(request, 0),
    onEnd: () => connection.timeout(request, options.idleTimeoutS),
  });
}

function failed(options: ApiOptions, error: unknown, requestId: string): Response {
  return errorResponse(error instanceof LlmnodeError ? error : logged(options, error, requestId));
}

/** What the client gets for a bug that only the log explains. */
function logged(options: ApiOptions, error: unknown, requestId: string): LlmnodeError {
  options.log.error("internal error", {
    request_id: requestId,
    error: messageOf(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
  const message = `The head failed on this request; its log says why under ${requestId}.`;
  return new LlmnodeError("internal", message);
}
