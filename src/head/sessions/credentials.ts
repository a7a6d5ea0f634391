/** The credential of each worker that has joined, as a hash, and which workers were removed. */

import { timingSafeEqual } from "node:crypto";
import { newSecret } from "../../protocol/head-files.ts";
import { digest } from "../../util/digest.ts";
import type { Store } from "../store/store.ts";

interface Credential {
  hash: string;
  /** The worker's name when it joined last. */
  name: string;
  /** Which models it may announce; null: any. */
  models: string | null;
  /** The join token that it joined with. */
  tokenId: string;
  /** Whether it was ever used: then the worker has stored it. */
  seen: boolean;
  joinedAt: number;
  /** Set when an operator has removed the worker. */
  forgotten: { at: number; run: string | null } | null;
}

interface CredentialsOptions {
  store: Store;
  now: () => number;
  /** How many are remembered; those of the workers longest away make room. */
  maxCredentials?: number;
}

export interface Credentials {
  get(workerId: string): Credential | null;
  /** The ids of workers that were called `name` when they joined last. */
  named(name: string): string[];
  matches(workerId: string, shown: string): boolean;
  /** A new one in place of any before; returns the secret that the worker uses from now on. */
  issue(workerId: string, about: Pick<Credential, "name" | "models" | "tokenId">): Promise<string>;
  /** The worker has joined with the one it has. */
  joined(workerId: string, about: Pick<Credential, "name" | "models" | "tokenId">): Promise<void>;
  /** From now on it is refused; `run` is the process that would otherwise come back at once. */
  forget(workerId: string, run: string | null): Promise<void>;
}

const PREFIX = "credentials/";

export function createCredentials(options: CredentialsOptions): Credentials {
  const { store, now } = options;
  const max = options.maxCredentials ?? 16_384;
  const get = (workerId: string) =>
    (store.get(PREFIX + workerId)?.value as Credential | undefined) ?? null;
  const makeRoom = async () => {
    const known = store.list(PREFIX);
    if (known.length < max) return;
    const at = ({ value }: { value: unknown }) => (value as Credential).joinedAt;
    const oldest = known.reduce((a, b) => (at(a) <= at(b) ? a : b));
    await store.delete(oldest.key, { durable: false });
  };
  return {
    get,
    named: (name) =>
      store
        .list(PREFIX)
        .filter(({ value }) => (value as Credential).name === name)
        .map(({ key }) => key.slice(PREFIX.length)),
    matches(workerId, shown) {
      const kept = get(workerId);
      return kept !== null && timingSafeEqual(digest(shown), Buffer.from(kept.hash, "hex"));
    },
    async issue(workerId, about) {
      if (get(workerId) === null) await makeRoom();
      const secret = newSecret();
      const hash = digest(secret).toString("hex");
      const kept: Credential = { ...about, hash, seen: false, joinedAt: now(), forgotten: null };
      await store.put(PREFIX + workerId, kept, { durable: true });
      return secret;
    },
    async joined(workerId, about) {
      const kept = get(workerId);
      if (!kept) return;
      const next: Credential = { ...kept, ...about, seen: true, joinedAt: now() };
      await store.put(PREFIX + workerId, next, { durable: false });
    },
    async forget(workerId, run) {
      const kept = get(workerId);
      const hash = kept?.hash ?? digest(newSecret()).toString("hex");
      const unknown = { name: "", models: null, tokenId: "", seen: false, joinedAt: now() };
      const next: Credential = { ...unknown, ...kept, hash, forgotten: { at: now(), run } };
      await store.put(PREFIX + workerId, next, { durable: true });
    },
  };
}
