/** How operators' requests are answered and written down; the subjects have files of their own. */

import type { Caller } from "../../protocol/caller.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Audit } from "../access/audit.ts";
import { type Body, bodyOf } from "../http/body.ts";
import type { Audience, HeadRoute } from "../http/route-table.ts";
import { fieldsIn, isRecord } from "../../util/json.ts";

/** What a handler may want to know beside the body. */
export interface AdminContext {
  caller: Caller;
  search: URLSearchParams;
}

/** Its result is the answer's JSON, beside the schema, or the whole answer. */
export type AdminHandler = (body: Body, context: AdminContext) => Promise<object>;

export type AdminRoute = readonly [
  method: "GET" | "POST",
  path: string,
  audience: Audience,
  handler: AdminHandler,
];

/**
 * Routes with bodies of JSON; what changes something is written down, whatever comes of it. Their
 * handlers throw `bad_request`, `forbidden`, `not_found`, `refused`.
 */
export function adminRoutes(
  routes: readonly AdminRoute[],
  audit: Pick<Audit, "note">,
): HeadRoute[] {
  return routes.map(([method, path, audience, handler]) => ({
    methods: [method],
    path,
    audience,
    async handle({ request, path: { search }, caller, requestId }) {
      const body = method === "POST" ? await bodyOf(request) : {};
      const note = (result: string, made: Body = {}) => {
        if (method === "GET") return;
        const action = `${method} ${path}`;
        audit.note({ caller, action, body: { ...body, ...made }, result, requestId });
      };
      let answer: object;
      try {
        answer = await handler(body, { caller, search: new URLSearchParams(search) });
      } catch (error) {
        note(error instanceof LlmnodeError ? error.code : "internal");
        throw error;
      }
      note("ok", madeBy(answer));
      if (answer instanceof Response) return answer;
      return Response.json(
        { schema: "llmnode.admin/1", ...answer },
        { headers: { "cache-control": "no-store" } },
      );
    },
  }));
}

/** The id of what was made, which the request could not know. */
function madeBy(answer: object): Body {
  const fields = fieldsIn(answer);
  const made = fields["api_key"] ?? fields["join_token"];
  return isRecord(made) && "id" in made ? { id: made["id"] } : {};
}
