/** The routes for viewers: the page, the stream of frames, requests and events. */

import { hasRole } from "../../protocol/caller.ts";
import { bodyOf } from "../http/body.ts";
import { jsonAnswer, jsonChunks, oneForAll } from "../http/lists.ts";
import type { HeadRoute } from "../http/route-table.ts";
import { PAGE_POLICY, pageHtml, pageText } from "../page/page.ts";
import { readWatchQuery } from "./query.ts";
import type { Views } from "./views.ts";

const WATCH = "/api/v1/watch";

/** Their handlers throw `bad_request`, `not_found`, `overloaded`. */
export function viewRoutes(views: Views): HeadRoute[] {
  const status = oneForAll(() => jsonChunks(views.status()));
  const forViewers = { methods: ["GET"], audience: "viewer" } as const;
  return [
    {
      ...forViewers,
      methods: ["GET", "HEAD"],
      path: "/",
      openedBy: "status",
      handle: ({ request }) => page(views, request),
    },
    {
      ...forViewers,
      methods: ["GET", "HEAD"],
      path: "/api/v1/status",
      openedBy: "status",
      handle: async () => jsonAnswer(await status(), NOT_KEPT),
    },
    {
      ...forViewers,
      path: WATCH,
      openedBy: "status",
      staysClosed: showsMore,
      handle({ request, path, caller, keepOpen, onEnd }) {
        const role = hasRole(caller, "operator") ? "operator" : "viewer";
        const apiUrl = originOf(request);
        const response = views.watch(wordsOf(path), { role, apiUrl, onEnd });
        keepOpen();
        return response;
      },
    },
    {
      ...forViewers,
      // What is posted is another query for the stream.
      methods: ["POST"],
      path: `${WATCH}/*`,
      async handle({ request, path }) {
        views.ask(path.pathname.slice(WATCH.length + 1), await bodyOf(request));
        return json({});
      },
    },
    {
      ...forViewers,
      path: "/api/v1/requests",
      handle: ({ path }) => json(views.requests(wordsOf(path))),
    },
    {
      ...forViewers,
      path: "/api/v1/events",
      handle: ({ path }) => json(views.events(wordsOf(path))),
    },
  ];
}

function wordsOf({ search }: { search: string }): URLSearchParams {
  return new URLSearchParams(search);
}

/** Who asks for what, and what one worker is like, are no part of a public status. */
function showsMore(search: string): boolean {
  const words = wordsOf({ search });
  return words.has("detail") || words.getAll("view").some((view) => !PUBLIC_VIEWS.includes(view));
}

const PUBLIC_VIEWS: readonly string[] = ["workers", "models"];

/** For browsers a page, for everything else the same as text. */
async function page(views: Views, request: Request): Promise<Response> {
  const frame = await views.frame(PAGE_QUERY);
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

const NOT_KEPT = { "cache-control": "no-store" };

function json(data: object): Response {
  return Response.json(data, { headers: NOT_KEPT });
}

function originOf(request: Request): string {
  const host = request.headers.get("host");
  const { protocol, origin } = new URL(request.url);
  return host === null ? origin : `${protocol}//${host}`;
}
