/** What is kept of a secret in its place. */

import { createHash } from "node:crypto";

/** SHA-256: enough for a secret that is random, which needs no salt. */
export function digest(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
