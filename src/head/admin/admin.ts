/** How operators' requests are asked, answered and written down; the subjects have files of their own. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Access } from "../access/access.ts";
import { type AdminRoutes, type Body, bodyOf } from "../http/body.ts";
import type { Audit } from "../access/audit.ts";
import type { Identity } from "../access/auth.ts";

export interface AdminCall {
  identity: Identity;
  requestId: string;
  /** The query with its mark, or nothing. */
  search: string;
}

/**
 * Null for a path that is not an operator's. Rejects with `key_missing`, `key_invalid`, `forbidden`,
 * `bad_request`, `method_not_allowed`, `not_found`, `refused`.
 */
export type Admin = (
  request: Request,
  pathname: string,
) => ((call: AdminCall) => Promise<Response>) | null;

export interface AdminOptions {
  routes: AdminRoutes;
  access: Pick<Access, "own">;
  /** Where all that changes something is written down. */
  audit: Pick<Audit, "note">;
}

export function createAdmin({ routes, access, audit }: AdminOptions): Admin {
  return (request, pathname) => {
    const methods = Object.hasOwn(routes, pathname) ? routes[pathname] : undefined;
    if (!methods) return null;
    return async ({ identity, requestId, search }) => {
      const { method } = request;
      const handler = method === "GET" || method === "POST" ? methods[method] : undefined;
      if (!handler) {
        const allow = Object.keys(methods).join(", ");
        throw new LlmnodeError("method_not_allowed", `${method} is not possible here.`, {
          allow,
        });
      }
      const refusal = access.own(identity, { method, pathname });
      if (refusal) throw refusal;
      const body = method === "POST" ? await bodyOf(request) : {};
      const { caller } = identity;
      const note = (result: string, made: Body = {}) => {
        if (method === "GET") return;
        audit.note({
          caller,
          action: `${method} ${pathname}`,
          body: { ...body, ...made },
          result,
          requestId,
        });
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
    };
  };
}

/** The id of what was made, which the request could not know. */
function madeBy(answer: object): Body {
  const fields: Body = { ...answer };
  const made = fields["api_key"] ?? fields["join_token"];
  return typeof made === "object" && made !== null && "id" in made ? { id: made.id } : {};
}
