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
  return (request, connection) => {
    const requestId = requestIdOf(request.headers);
    const identity = access.identify(request, connection.requestIP(request)?.address ?? "");
    const incoming = { request, connection, requestId, identity, part };
    const answer = answered(options, incoming);
    // Not async: nearly all requests go straight to the proxy, and each such layer costs.
    return identity.problem === null ? answer : heldBack(options, incoming, answer);
  };
}

/** Never throws nor rejects. */
function answered(options: ApiOptions, arrived: Omit<Incoming, "path">): Promise<Response> {
  const { request } = arrived;
  try {
    const incoming = { ...arrived, path: readPath(request.url) };
    const early = preflight(request, options.corsOrigin);
    if (early !== null) return Promise.resolve(completed(options, incoming, early));
    const sent = route(options, incoming);
    if (sent.isComplete) return sent.answer;
    return Promise.resolve(sent.answer).then(
      (response) => completed(options, incoming, response),
      (error: unknown) => failed(options, incoming, error),
    );
  } catch (error) {
    return Promise.resolve(failed(options, arrived, error));
  }
}

async function heldBack(
  options: ApiOptions,
  incoming: Omit<Incoming, "path">,
  answer: Promise<Response>,
): Promise<Response> {
  const { identity, request } = incoming;
  const first = await answer;
  const response = await options.access.heldBack(identity, first, request.signal);
  return response === first ? first : completed(options, incoming, response);
}

/** Adds what every answer has. */
function completed(
  options: ApiOptions,
  incoming: Omit<Incoming, "path">,
  response: Response,
): Response {
  const headers: Record<string, string> = {};
  const vary = response.headers.get("vary");
  if (vary !== null) headers["vary"] = vary;
  complete(options, incoming, headers);
  for (const name in headers) response.headers.set(name, headers[name] ?? "");
  return response;
}

function complete(
  options: ApiOptions,
  { request, requestId }: Omit<Incoming, "path">,
  headers: Record<string, string>,
): void {
  headers["x-request-id"] = requestId;
  allowOrigin(headers, request, options.corsOrigin);
  if (options.draining()) headers["connection"] = "close";
}

interface Incoming {
  request: Request;
  connection: Connection;
  requestId: string;
  path: RequestPath;
  identity: Identity;
  part: Part;
}

/** An answer on its way; `isComplete`: nothing is to be added, and it never fails. */
type Sent =
  | { isComplete: true; answer: Promise<Response> }
  | { isComplete: false; answer: Response | Promise<Response> };

/** Throws. */
function route(options: ApiOptions, incoming: Incoming): Sent {
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
  return { isComplete: false, answer: own(options, incoming) };
}

/** The routes at a path that engines answer. */
function infer(options: ApiOptions, incoming: Incoming, routes: readonly Route[]): Sent {
  const { request, path } = incoming;
  const method = request.method === "HEAD" ? "GET" : request.method;
  const inference = routes.find((route) => route.method === method);
  if (!inference) {
    const allow = routes.map((route) => route.method).join(", ");
    return refused(notAllowed(request, path.pathname, allow), routes[0]?.dialect);
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
): Sent {
  const { request, connection, requestId, path, identity } = incoming;
  if (incoming.part === "operators") return refused(nothingAt(path.pathname), to.dialect);
  if (options.draining()) return refused(stopping(), to.dialect);
  const worker = path.worker ?? request.headers.get("x-llmnode-worker");
  const explained = request.headers.has(DEBUG_ROUTE);
  const why = options.access.client(identity, { pinned: worker !== null, explained });
  if (why) return refused(why, to.dialect);
  const { caller } = identity;
  // Given back when the request's record is complete.
  if (!options.addressLimit.take(caller.address)) return refused(tooMany(), to.dialect);
  let isKeptOpen = false;
  const answer = to.send({
    path: `${path.pathname}${path.search}`,
    requestId,
    clientAddress: caller.address,
    caller,
    worker,
    onBug: (error) => logged(options, error, requestId),
    complete: (headers) => complete(options, incoming, headers),
    // Engines may be silent for minutes before the first token; our own rules end a request.
    keepOpen() {
      isKeptOpen = true;
      connection.timeout(request, 0);
    },
    // The lifted limit would stay with the connection, and keep dead clients' ones open for ever.
    onEnd() {
      if (isKeptOpen) connection.timeout(request, options.idleTimeoutS);
    },
  });
  return { isComplete: true, answer };
}

function refused(error: LlmnodeError, dialect: Dialect | undefined): Sent {
  return { isComplete: false, answer: errorResponse(error, dialect) };
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
  const why = access.own(identity, route, search);
  if (why) throw why;
  return route.handle({
    request,
    path,
    caller: identity.caller,
    requestId,
    keepOpen: () => connection.timeout(request, 0),
    onEnd: () => connection.timeout(request, options.idleTimeoutS),
  });
}

function failed(options: ApiOptions, incoming: Omit<Incoming, "path">, error: unknown): Response {
  const { requestId } = incoming;
  const known = error instanceof LlmnodeError ? error : logged(options, error, requestId);
  return completed(options, incoming, errorResponse(known));
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
