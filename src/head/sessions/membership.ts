/** Opens what decides who belongs to the cluster: the store, the identity, tokens, credentials. */

import path from "node:path";
import { JOIN_TOKEN_FILE } from "../../protocol/head-files.ts";
import type { Log } from "../../util/log.ts";
import { createCredentials, type Credentials } from "./credentials.ts";
import { createGate, type Gate } from "./gate.ts";
import { type HeadIdentity, loadIdentity } from "../store/identity.ts";
import { type JoinTokens, openJoinTokens } from "../store/join-tokens.ts";
import { openStore, type Store } from "../store/store.ts";
import { noteOwner } from "../store/file.ts";

interface MembershipOptions {
  /** The data directory; the head's own folder is in it. */
  dataDir: string;
  /** No TLS for sessions and lanes. Join tokens and credentials count all the same. */
  insecure: boolean;
  log: Log;
}

export interface Membership extends AsyncDisposable {
  store: Store;
  identity: HeadIdentity;
  /** What the servers for sessions and lanes listen with; null with `insecure`. */
  tls: { key: string; cert: string } | null;
  joinTokens: JoinTokens;
  credentials: Credentials;
  gate: Gate;
  /** Writes where this head is, for another that wants the same folder. */
  noteOwner(where: string): void;
}

/** Throws `data_dir_unusable`. */
export async function openMembership(options: MembershipOptions): Promise<Membership> {
  const { log } = options;
  const dir = path.join(options.dataDir, "head");
  await using stack = new AsyncDisposableStack();
  const store = stack.use(openStore({ dir, log }));
  const identity = await loadIdentity(dir);
  const joinTokens = await openJoinTokens({
    store,
    file: path.join(options.dataDir, JOIN_TOKEN_FILE),
    fingerprint: identity.fingerprint,
    now: Date.now,
  });
  const credentials = createCredentials({ store, now: Date.now });
  if (options.insecure) {
    log.warn("--insecure: traffic between head and workers is NOT encrypted, join tokens included");
  }
  const opened = stack.move();
  return {
    store,
    identity,
    tls: options.insecure ? null : identity.tlsFor(),
    joinTokens,
    credentials,
    gate: createGate({ joinTokens, credentials, now: Date.now }),
    noteOwner: (where) => noteOwner(dir, where),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
