/** Routes what arrives at the head's HTTP port to the proxy, the lists, health and status. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Proxy } from "../../proxy/proxy.ts";
import { errorResponse } from "../../proxy/record/error-answer.ts";
import { DEBUG_ROUTE } from "../../proxy/record/recording.ts";
import { requestIdOf } from "../../proxy/request/headers.ts";
import { type Dialect, type Route, routesAt } from "../../proxy/request/routes.ts";
import type { ServiceProxy } from "../../proxy/service/service.ts";
import type { Access, Part } from "../access/access.ts";
import { preflight } from "../http/cors.ts";
import { notAllowed, nothingAt, stopping, tooMany } from "../http/errors.ts";
import { readPath } from "../http/paths.ts";
import type { RouteTable } from "../http/route-table.ts";
import type { AddressLimit } from "../quota/limits.ts";
import { Arrival, type ArrivalOptions, type Connection } from "./arrival.ts";

export interface ApiOptions extends ArrivalOptions {
  proxy: Proxy;
  services: ServiceProxy;
  /** What the head answers itself. */
  routesAt: RouteTable;
  /** Who asks, and what they may. */
  access: Access;
  addressLimit: AddressLimit;
}

export type Api = (request: Request, connection: Connection) => Promise<Response>;

export function createApi(options: ApiOptions, part: Part = "all"): Api {
  const { access } = options;
  return (request, connection) => {
    const requestId = requestIdOf(request.headers);
    const identity = access.identify(request, connection.requestIP(request)?.address ?? "");
    const arrival = new Arrival(options, { request, connection, requestId, identity, part });
    const answer = answered(options, arrival);
    // Not async: nearly all requests go straight to the proxy, and each such layer costs.
    return identity.problem === null ? answer : heldBack(options, arrival, answer);
  };
}

/** Never throws nor rejects. */
function answered(options: ApiOptions, arrival: Arrival): Promise<Response> {
  const { request } = arrival;
  try {
    arrival.at = readPath(request.url);
    const early = preflight(request, options.corsOrigin);
    if (early !== null) return Promise.resolve(arrival.completed(early));
    const sent = route(options, arrival);
    // Of the proxy: nothing is to be added, and it never fails.
    if (arrival.isPassedOn) return sent as Promise<Response>;
    return Promise.resolve(sent).then(
      (response) => arrival.completed(response),
      (error: unknown) => failed(arrival, error),
    );
  } catch (error) {
    return Promise.resolve(failed(arrival, error));
  }
}

async function heldBack(
  { access }: ApiOptions,
  arrival: Arrival,
  answer: Promise<Response>,
): Promise<Response> {
  const { identity, request } = arrival;
  const first = await answer;
  const response = await access.heldBack(identity, first, request.signal);
  return response === first ? first : arrival.completed(response);
}

/** The answer; `arrival.isPassedOn` tells whether it is the proxy's. Throws. */
function route(options: ApiOptions, arrival: Arrival): Response | Promise<Response> {
  const { request, at } = arrival;
  const { service } = at;
  // First: a service may have paths of its own that are the head's elsewhere.
  if (service !== null) {
    return refusal(options, arrival, "openai") ?? options.services(request, arrival, service);
  }
  const routes = routesAt(at.pathname);
  // Nearly all requests; none of the head's own routes is at these paths.
  if (routes.length > 0) return infer(options, arrival, routes);
  return own(options, arrival);
}

/** The routes at a path that engines answer. */
function infer(
  options: ApiOptions,
  arrival: Arrival,
  routes: readonly Route[],
): Response | Promise<Response> {
  const { request, at } = arrival;
  const method = request.method === "HEAD" ? "GET" : request.method;
  for (const route of routes) {
    if (route.method !== method) continue;
    return refusal(options, arrival, route.dialect) ?? options.proxy(request, arrival, route);
  }
  const allow = routes.map((route) => route.method).join(", ");
  return errorResponse(notAllowed(request, at.pathname, allow), routes[0]?.dialect);
}

/** Why what is not the head's to answer is not passed on; null: it is, and the arrival says so. */
function refusal(options: ApiOptions, arrival: Arrival, dialect: Dialect): Response | null {
  const { request, at, identity } = arrival;
  if (arrival.part === "operators") return errorResponse(nothingAt(at.pathname), dialect);
  if (options.draining()) return errorResponse(stopping(), dialect);
  const worker = at.worker ?? request.headers.get("x-llmnode-worker");
  const explained = request.headers.has(DEBUG_ROUTE);
  const why = options.access.client(identity, { pinned: worker !== null, explained });
  if (why) return errorResponse(why, dialect);
  // Given back when the request's record is complete.
  if (!options.addressLimit.take(arrival.clientAddress)) return errorResponse(tooMany(), dialect);
  arrival.isPassedOn = true;
  arrival.path = `${at.pathname}${at.search}`;
  arrival.worker = worker;
  return null;
}

/** What the head answers itself. Throws `unknown_url`, `method_not_allowed`, what access throws. */
function own(options: ApiOptions, arrival: Arrival): Response | Promise<Response> {
  const { access } = options;
  const { request, requestId, identity, part, at: path } = arrival;
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
    keepOpen: () => arrival.keepOpen(),
    onEnd: () => arrival.onEnd(),
  });
}

function failed(arrival: Arrival, error: unknown): Response {
  const known = error instanceof LlmnodeError ? error : arrival.onBug(error);
  return arrival.completed(errorResponse(known));
}
