/** What a worker shows its head: the credential in its slot, or a join token, each for one key. */

import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { JOIN_TOKEN_FILE, parseJoinToken } from "../protocol/head-files.ts";
import type { HeadCertificate } from "../protocol/pin.ts";
import type { HeadKey } from "../protocol/session-client.ts";
import { isLoopback } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import { writeSecretFile } from "../util/secret-file.ts";
import { fieldsIn } from "../util/json.ts";
import { readJsonFile } from "../util/json-file.ts";

export interface KeyringOptions {
  /** The slot's folder. */
  dir: string;
  dataDir: string;
  headHost: string;
  /** A join token that a person gave. */
  joinToken: string | null;
  log: Log;
}

export interface Keyring {
  /** What may be shown to which head, the preferred first; read each time. */
  keys(): HeadKey[];
  /** The head that is talked to from now on, out of those of `keys`. */
  verified(certificate: HeadCertificate): void;
  /** Keeps what this head gave. */
  keep(credential: string): void;
}

interface Kept {
  credential: string;
  fingerprint: string;
}

/**
 * A join token from a person names the head. Otherwise the head beside this worker, by the join
 * token in its data directory, and the head that this slot belongs to are both trusted. Throws
 * `join_token_missing`, and `usage` for what is not a join token.
 */
export function openKeyring(options: KeyringOptions): Keyring {
  const { dir, dataDir } = options;
  const given = options.joinToken === null ? null : parseJoinToken(options.joinToken);
  if (options.joinToken !== null && given === null) {
    throw new LlmnodeError(
      "usage",
      "the join token is incomplete: it has 48 characters, a dot and 43 characters",
      { hints: ["copy it again: on the head, llmnode join-token show"] },
    );
  }
  const isBeside = isOwnHost(options.headHost);
  let verified: string | null = null;
  const keys = (): HeadKey[] => {
    const kept = readKept(dir);
    const token =
      given ?? (isBeside ? parseJoinToken(read(path.join(dataDir, JOIN_TOKEN_FILE))) : null);
    const own =
      token === null
        ? []
        : [
            {
              fingerprint: token.fingerprint,
              credential: kept?.fingerprint === token.fingerprint ? kept.credential : null,
              joinToken: token.secret,
            },
          ];
    const isOther = kept !== null && kept.fingerprint !== token?.fingerprint;
    if (!isOther || given !== null) return own;
    return [
      ...own,
      { fingerprint: kept.fingerprint, credential: kept.credential, joinToken: null },
    ];
  };
  // A head beside this worker may be about to start and make its join token.
  if (!isBeside && keys().length === 0) {
    throw new LlmnodeError("join_token_missing", `joining ${options.headHost} needs a join token`, {
      hints: [
        "get it:   on the head's machine, llmnode join-token show",
        "give it:  LLMNODE_TOKEN=<join token> llmnode join ...   (or --token-file <file>)",
      ],
    });
  }
  return {
    keys,
    verified(certificate) {
      verified = certificate.fingerprint;
    },
    keep(credential) {
      // Without TLS it is not known which head gave it; it is kept for the one that was meant.
      const fingerprint = verified ?? keys()[0]?.fingerprint ?? "";
      const text = JSON.stringify({ credential, fingerprint } satisfies Kept);
      try {
        writeSecretFile(path.join(dir, "credential.json"), `${text}\n`);
      } catch (error) {
        options.log.warn("the credential cannot be kept: the next start needs a join token", {
          error: messageOf(error),
        });
      }
    },
  };
}

/** Whether a name or address of the head is this machine, as far as it knows without asking. */
function isOwnHost(host: string): boolean {
  if (isLoopback(host) || host === os.hostname()) return true;
  return Object.values(os.networkInterfaces()).some((list) =>
    (list ?? []).some(({ address }) => address === host),
  );
}

function readKept(dir: string): Kept | null {
  // Missing, or cut off by a full disk: the worker joins by a join token again.
  const { credential, fingerprint } = fieldsIn(readJsonFile(path.join(dir, "credential.json")));
  if (typeof credential !== "string" || !/^[0-9a-f]{48}$/.test(credential)) return null;
  return typeof fingerprint === "string" ? { credential, fingerprint } : null;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // Not there, or not for this user: as good as none.
    return "";
  }
}
