/** All that operators can ask of the head, as entries of its route table. */

import type { ClusterState } from "../../cluster/state/state.ts";
import { hasRole } from "../../protocol/caller.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Audit } from "../access/audit.ts";
import type { Guard } from "../access/guard.ts";
import type { Drains } from "../drains/drains.ts";
import { bad, text } from "../http/body.ts";
import type { HeadRoute } from "../http/route-table.ts";
import type { Usage } from "../quota/usage.ts";
import type { Membership } from "../sessions/membership.ts";
import type { Sessions } from "../sessions/session.ts";
import type { HeadAliases } from "../store/aliases.ts";
import { backupOf, type BackupSource } from "../store/backup.ts";
import { type AdminHandler, type AdminRoute, adminRoutes } from "./admin.ts";
import { aliasRoutes } from "./aliases.ts";
import { drainRoutes } from "./drains.ts";
import { keyRoutes, tokenRoutes } from "./keys.ts";
import { usageRoutes } from "./usage.ts";
import { workerRoutes } from "./workers.ts";

export interface OperatorRoutesOptions {
  state: ClusterState;
  guard: Pick<Guard, "keys" | "audit">;
  membership: Pick<Membership, "joinTokens" | "credentials">;
  sessions: Sessions;
  aliases: HeadAliases;
  drains: Drains;
  usage: Usage;
  backup: () => BackupSource;
  /** Names by which clients may ask for models now, aliases included. */
  models: () => Iterable<string>;
  /** Ends a client's request. Throws `not_found`. */
  cancel: (requestId: string) => void;
  now: () => number;
}

export function operatorRoutes(options: OperatorRoutesOptions): HeadRoute[] {
  const { state, guard, membership, sessions, aliases, drains, usage, now } = options;
  const { keys, audit } = guard;
  const { joinTokens, credentials } = membership;
  const dropOrders = (workerId: string) => drains.forget(workerId);
  const nameOf = (keyId: string) => keys.nameOf(keyId);
  return adminRoutes(
    [
      ...tokenRoutes(joinTokens),
      ...keyRoutes(keys, options.models),
      ...auditRoutes(audit),
      ...backupRoutes(options.backup),
      ...usageRoutes({ usage, nameOf, now }),
      ...aliasRoutes(aliases),
      ...requestRoutes(options.cancel),
      ...drainRoutes(state, drains),
      ...workerRoutes({ credentials, state, sessions, now, dropOrders }),
    ],
    audit,
  );
}

function requestRoutes(cancel: (requestId: string) => void): AdminRoute[] {
  const end: AdminHandler = async (body) => {
    const id = text(body, "id");
    cancel(id);
    return { request: { id } };
  };
  return [["POST", "/api/v1/requests/cancel", "operator", end]];
}

const MAX_ENTRIES = 10_000;

/** `?limit=<n>&since_ms=<milliseconds since 1970>` */
function auditRoutes(audit: Audit): AdminRoute[] {
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
  throw bad(name, `${name} must be a whole number up to ${max}.`);
}

/** The answer is the backup itself, as `head restore` takes it. */
function backupRoutes(source: () => BackupSource): AdminRoute[] {
  const backUp: AdminHandler = async (_body, { caller }) => {
    // Who has it is the head: an operator's key, which can be taken back, is not enough.
    if (!hasRole(caller, "admin")) {
      throw new LlmnodeError(
        "forbidden",
        "A backup contains the head's own key and tokens: it needs the admin token.",
      );
    }
    return new Response(streamOf(backupOf(source())), {
      headers: { "content-type": "application/x-ndjson", "cache-control": "no-store" },
    });
  };
  // By POST: what it hands out is written down, as what changes something is.
  return [["POST", "/api/v1/backup", "operator", backUp]];
}

/** One piece at a time, as they are taken. */
function streamOf(pieces: Iterable<string>): ReadableStream<Uint8Array> {
  const each = pieces[Symbol.iterator]();
  const encoder = new TextEncoder();
  return new ReadableStream({
    pull(controller) {
      const next = each.next();
      if (next.done === true) controller.close();
      else controller.enqueue(encoder.encode(next.value));
    },
    cancel: () => void each.return?.(),
  });
}
