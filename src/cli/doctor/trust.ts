/** Finds what this machine would show the head: what `join` would find, and workers' credentials. */

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { HeadKey } from "../../protocol/session-client.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { silentLog } from "../../util/log.ts";
import { openKeyring } from "../../worker/credential.ts";

export interface Shown {
  key: HeadKey;
  /** Whose credential it is; null for a join token. */
  workerId: string | null;
}

export interface TrustOptions {
  dataDir: string;
  headHost: string;
  joinToken: string | null;
}

/** The join token first. Throws `usage` for a join token that is none. */
export function findTrust(options: TrustOptions): Shown[] {
  const tokens = keysIn(options, join(options.dataDir, "workers"))
    .filter(({ joinToken }) => joinToken !== null)
    .map((key) => ({ key: { ...key, credential: null }, workerId: null }));
  if (options.joinToken !== null) return tokens;
  const credentials = slots(options.dataDir).flatMap(({ dir, workerId }) =>
    keysIn(options, dir)
      .filter(({ credential }) => credential !== null)
      .map((key) => ({ key: { ...key, joinToken: null }, workerId })),
  );
  return [...tokens, ...credentials];
}

function keysIn({ dataDir, headHost, joinToken }: TrustOptions, dir: string): HeadKey[] {
  try {
    return openKeyring({ dir, dataDir, headHost, joinToken, log: silentLog }).keys();
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "join_token_missing") return [];
    throw error;
  }
}

function slots(dataDir: string): { dir: string; workerId: string }[] {
  const base = join(dataDir, "workers");
  try {
    return readdirSync(base, { recursive: true })
      .map((entry) => join(base, String(entry)))
      .filter((file) => file.endsWith("/slot.json"))
      .flatMap((file) => {
        const id = /"worker_id":\s*"([0-9a-z-]{8,64})"/.exec(readFileSync(file, "utf8"))?.[1];
        return id === undefined ? [] : [{ dir: dirname(file), workerId: id }];
      });
  } catch {
    // No worker has run here, or another user's: then there is no credential to look at.
    return [];
  }
}
