/** The request for a backup of the running head. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { hasRole } from "../../protocol/caller.ts";
import { type BackupSource, backupOf } from "../store/backup.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

/** The answer is the backup itself, as `head restore` takes it. */
export function backupRoutes(source: () => BackupSource): AdminRoute[] {
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
