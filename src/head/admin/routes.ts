/** All that operators can ask of the head, as entries of its route table. */

import type { ClusterState } from "../../cluster/state/state.ts";
import type { Guard } from "../access/guard.ts";
import type { Drains } from "../drains/drains.ts";
import { text } from "../http/body.ts";
import type { HeadRoute } from "../http/route-table.ts";
import type { Usage } from "../quota/usage.ts";
import type { Membership } from "../sessions/membership.ts";
import type { Sessions } from "../sessions/session.ts";
import type { HeadAliases } from "../store/aliases.ts";
import type { BackupSource } from "../store/backup.ts";
import { type AdminRoute, adminRoutes } from "./admin.ts";
import { aliasRoutes } from "./aliases.ts";
import { auditRoutes } from "./audit.ts";
import { backupRoutes } from "./backup.ts";
import { drainRoutes } from "./drains.ts";
import { keyRoutes } from "./keys.ts";
import { tokenRoutes } from "./tokens.ts";
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
      ...keyRoutes({ keys, models: options.models }),
      ...auditRoutes(audit),
      ...backupRoutes(options.backup),
      ...usageRoutes({ usage, nameOf, now }),
      ...aliasRoutes(aliases),
      ...requestRoutes(options.cancel),
      ...drainRoutes({ state, drains }),
      ...workerRoutes({ credentials, state, sessions, now, dropOrders }),
    ],
    audit,
  );
}

function requestRoutes(cancel: (requestId: string) => void): AdminRoute[] {
  return [
    [
      "POST",
      "/api/v1/requests/cancel",
      "operator",
      async (body) => {
        const id = text(body, "id");
        cancel(id);
        return { request: { id } };
      },
    ],
  ];
}
