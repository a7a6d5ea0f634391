/** Sends one attempt's request to its engine. */

import { connectionFailure } from "../answer/failure.ts";
import type { Lease } from "../request/lease.ts";
import type { UpstreamRequest } from "../request/upstream.ts";

/**
 * A reset before the headers is most often a pooled connection that the engine closed while idle,
 * and fetch does not tell: it is tried once more on a fresh connection.
 */
export async function send(
  lease: Lease,
  request: UpstreamRequest,
  { repeatable }: { repeatable: boolean },
): Promise<Response> {
  try {
    return await lease.upstream(request);
  } catch (error) {
    const { outcome } = connectionFailure(error, "engine");
    if (request.signal.aborted || outcome !== "broken" || !repeatable) throw error;
    try {
      return await lease.upstream({ ...request, fresh: true });
    } catch (second) {
      // What can no longer be reached may well have died of this request, and has not refused it.
      throw connectionFailure(second, "engine").outcome === "unreachable" ? error : second;
    }
  }
}
