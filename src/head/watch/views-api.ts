/** The paths of what people look at. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { bodyOf } from "../http/body.ts";
import type { Viewer } from "./watch.ts";
import { PAGE_POLICY, pageHtml, pageText } from "../page/page.ts";
import { readWatchQuery } from "./query.ts";
import type { Views } from "./views.ts";

export interface ViewCall {
  request: Request;
  pathname: string;
  /** With its `?`, or empty. */
  search: string;
  role: Viewer["role"];
  /** Lifts the limit for a silent connection until `onEnd`. */
  keepOpen(): void;
  onEnd(): void;
}

const WATCH = "/api/v1/watch";

/** Null for other paths. What it gives throws `bad_request`, `method_not_allowed`, `not_found`, `overloaded`. */
export function viewAt(views: Views, call: ViewCall): (() => Response | Promise<Response>) | null {
  const { pathname, request } = call;
  const words = () => new URLSearchParams(call.search);
  switch (pathname) {
    case "/":
      return () => page(views, request);
    case WATCH:
      return () => {
        requireMethod(request, "GET");
        const { role, onEnd } = call;
        const response = views.watch(words(), { role, apiUrl: originOf(request), onEnd });
        call.keepOpen();
        return response;
      };
    case "/api/v1/requests":
      return () => {
        requireMethod(request, "GET");
        return json(views.requests(words()));
      };
    case "/api/v1/events":
      return () => {
        requireMethod(request, "GET");
        return json(views.events(words()));
      };
    default:
      break;
  }
  if (!pathname.startsWith(`${WATCH}/`)) return null;
  return async () => {
    requireMethod(request, "POST");
    views.ask(pathname.slice(WATCH.length + 1), await bodyOf(request));
    return json({});
  };
}

/** For browsers a page, for everything else the same as text. */
function page(views: Views, request: Request): Response {
  if (request.method !== "HEAD") requireMethod(request, "GET");
  const frame = views.frame(PAGE_QUERY);
  const facts = { frame, apiUrl: originOf(request), version: views.version };
  const isBrowser = (request.headers.get("accept") ?? "").includes("text/html");
  const headers = {
    "content-type": isBrowser ? "text/html; charset=utf-8" : "text/plain; charset=utf-8",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    vary: "accept",
    ...(isBrowser && { "content-security-policy": PAGE_POLICY, "referrer-policy": "no-referrer" }),
  };
  return new Response(isBrowser ? pageHtml(facts) : pageText(facts), { headers });
}

const PAGE_QUERY = readWatchQuery({ limit: 200, models_beside: 50 });

function json(data: object): Response {
  return Response.json(data, { headers: { "cache-control": "no-store" } });
}

function originOf(request: Request): string {
  const host = request.headers.get("host");
  const { protocol, origin } = new URL(request.url);
  return host === null ? origin : `${protocol}//${host}`;
}

function requireMethod(request: Request, allow: "GET" | "POST"): void {
  if (request.method === allow) return;
  throw new LlmnodeError("method_not_allowed", `${request.method} is not possible here.`, {
    allow,
  });
}
