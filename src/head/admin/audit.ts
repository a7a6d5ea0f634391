/** Operators' requests about what operators did. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Audit } from "../access/audit.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

const MAX_ENTRIES = 10_000;

/** `?limit=<n>&since_ms=<milliseconds since 1970>` */
export function auditRoutes(audit: Audit): AdminRoute[] {
  const read: AdminHandler = async (_body, { search }) => ({
    entries: audit.read({
      limit: number(search, "limit", { fallback: 100, max: MAX_ENTRIES }),
      sinceMs: number(search, "since_ms", { fallback: 0, max: 1e13 }),
    }),
  });
  return [["GET", "/api/v1/audit", "operator", read]];
}

function number(
  search: URLSearchParams,
  name: string,
  { fallback, max }: { fallback: number; max: number },
): number {
  const text = search.get(name);
  if (text === null) return fallback;
  const value = /^\d{1,14}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  const message = `${name} must be a whole number up to ${max}.`;
  throw new LlmnodeError("bad_request", message, { param: name });
}
