/** API keys: made, listed and taken back here; only hashes of their secrets are kept. */

import { timingSafeEqual } from "node:crypto";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import {
  KEY_ROLES,
  type KeyLimits,
  type KeyRole,
  NO_LIMITS,
  type CallerKey,
} from "../../protocol/caller.ts";
import { globMatcher } from "../../util/glob.ts";
import type { Log } from "../../util/log.ts";
import { cleanLine } from "../../util/text.ts";
import { formatKey, newKeyText, parseKey } from "./key-text.ts";
import type { Store } from "../store/store.ts";
import { isRecord } from "../../util/json.ts";

export interface KeysOptions {
  store: Store;
  log: Log;
  /** Milliseconds since 1970. */
  now: () => number;
  /** How many are remembered; the oldest of the ended ones make room for new ones. */
  maxKeys?: number;
}

export interface KeyRequest {
  name: string;
  role: KeyRole;
  /** Names of models or aliases, with `*`; null: any. */
  models: readonly string[] | null;
  limits: KeyLimits;
  /** Milliseconds from now; null: for ever. */
  expiresInMs: number | null;
}

export type KeyState = "active" | "expired" | "revoked";

export interface KeyInfo extends Omit<KeyRequest, "expiresInMs"> {
  id: string;
  state: KeyState;
  createdAt: number;
  expiresAt: number | null;
  revokedAt: number | null;
}

export type KeyCheck =
  | { ok: true; key: CallerKey }
  | { ok: false; reason: "unknown" | "wrong" | "expired" | "revoked"; message: string };

export interface Keys extends Disposable {
  /** How many there are, those that have ended included. */
  readonly size: number;
  /** The key itself is shown this once. Throws `refused` when there are too many. */
  create(request: KeyRequest): Promise<{ key: string; info: KeyInfo }>;
  /** With `purge` it is forgotten as well. Throws `not_found`. */
  revoke(id: string, how: { purge: boolean }): Promise<KeyInfo>;
  /** The oldest first. */
  list(): KeyInfo[];
  /** What a key is called; null: there is none of that id. */
  nameOf(id: string): string | null;
  /** One look-up and, where the id is known, one hash. */
  check(text: string): KeyCheck;
}

/** As it is stored, under its id. */
interface Stored extends Omit<KeyRequest, "expiresInMs"> {
  /** SHA-256 of the secret, hex. A secret is random enough to need no salt. */
  hash: string;
  created_at: number;
  expires_at: number | null;
  revoked_at: number | null;
}

interface Kept {
  stored: Stored;
  caller: CallerKey;
}

const PREFIX = "keys/";

export function openKeys(options: KeysOptions): Keys {
  const { store, log, now } = options;
  const max = options.maxKeys ?? 200_000;
  const kept = new Map<string, Kept>();

  const take = (key: string, value: unknown): void => {
    const id = key.slice(PREFIX.length);
    if (value === undefined) {
      kept.delete(id);
      return;
    }
    try {
      const stored = storedOf(value);
      kept.set(id, { stored, caller: callerOf(id, stored) });
    } catch (error) {
      kept.delete(id);
      log.warn("an API key in the store cannot be read; it is not accepted", {
        key: id,
        reason: messageOf(error),
      });
    }
  };
  for (const { key, value } of store.list(PREFIX)) take(key, value);
  const unwatch = store.watch(PREFIX, ({ key, value }) => take(key, value));

  const infoOf = (id: string, stored: Stored) => infoAt(id, stored, now());
  const makeRoom = async () => {
    if (kept.size < max) return;
    const ended = oldestEnded(kept, now());
    if (ended === null) {
      throw new LlmnodeError("refused", `there are ${kept.size} API keys already`, {
        hints: ["revoke some:   llmnode key list"],
      });
    }
    await store.delete(PREFIX + ended, { durable: true });
  };

  return {
    get size() {
      return kept.size;
    },
    async create(request) {
      await makeRoom();
      const { id, secret } = newKeyText();
      const stored: Stored = {
        name: request.name,
        hash: hashOf(secret),
        role: request.role,
        models: request.models,
        limits: request.limits,
        created_at: now(),
        expires_at: request.expiresInMs === null ? null : now() + request.expiresInMs,
        revoked_at: null,
      };
      await store.put(PREFIX + id, stored, { durable: true });
      return { key: formatKey({ id, secret }), info: infoOf(id, stored) };
    },
    async revoke(id, { purge }) {
      const found = kept.get(id);
      if (!found) throw new LlmnodeError("not_found", `there is no API key ${cleanLine(id, 40)}`);
      const revoked = { ...found.stored, revoked_at: found.stored.revoked_at ?? now() };
      if (purge) await store.delete(PREFIX + id, { durable: true });
      else await store.put(PREFIX + id, revoked, { durable: true });
      return infoOf(id, revoked);
    },
    nameOf: (id) => kept.get(id)?.stored.name ?? null,
    list: () =>
      [...kept]
        .map(([id, { stored }]) => infoOf(id, stored))
        .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)),
    check: (text) => checkKey(kept, text, now),
    [Symbol.dispose]: unwatch,
  };
}

function stateOf({ revoked_at, expires_at }: Stored, now: number): KeyState {
  if (revoked_at !== null) return "revoked";
  return expires_at !== null && now >= expires_at ? "expired" : "active";
}

function infoAt(id: string, stored: Stored, now: number): KeyInfo {
  return {
    id,
    state: stateOf(stored, now),
    name: stored.name,
    role: stored.role,
    models: stored.models,
    limits: stored.limits,
    createdAt: stored.created_at,
    expiresAt: stored.expires_at,
    revokedAt: stored.revoked_at,
  };
}

/** The id of the oldest key that has ended; null where all are active. */
function oldestEnded(kept: ReadonlyMap<string, Kept>, now: number): string | null {
  const [ended] = [...kept]
    .filter(([, { stored }]) => stateOf(stored, now) !== "active")
    .sort(([, a], [, b]) => a.stored.created_at - b.stored.created_at);
  return ended?.[0] ?? null;
}

function checkKey(kept: ReadonlyMap<string, Kept>, text: string, now: () => number): KeyCheck {
  const parts = parseKey(text);
  if (!parts) return refused("unknown", "This is not an API key of this head.");
  const { id, secret } = parts;
  const found = kept.get(id);
  if (!found) {
    return refused("unknown", `This head does not know the API key ${id}: is it another head's?`);
  }
  const { stored, caller } = found;
  if (!timingSafeEqual(Buffer.from(hashOf(secret)), Buffer.from(stored.hash))) {
    return refused("wrong", `The API key ${id} is incomplete or wrong.`);
  }
  const state = stateOf(stored, now());
  if (state === "active") return { ok: true, key: caller };
  const at = state === "expired" ? stored.expires_at : stored.revoked_at;
  const verb = state === "expired" ? "expired" : "was revoked";
  return refused(state, `The API key ${id} ${verb} at ${instant(at)}.`);
}

type Refusal = Extract<KeyCheck, { ok: false }>;

function refused(reason: Refusal["reason"], message: string): Refusal {
  return { ok: false, reason, message };
}

function hashOf(secret: string): string {
  return Bun.CryptoHasher.hash("sha256", secret, "hex");
}

function instant(at: number | null): string {
  return `${new Date(at ?? 0).toISOString().slice(0, 19)}Z`;
}

function callerOf(id: string, { name, role, models, limits }: Stored): CallerKey {
  const matchers = models?.map(globMatcher);
  const allows = matchers
    ? (model: string) => matchers.some((matches) => matches(model))
    : allowsAll;
  return { id, name, role, models, limits, allows };
}

function allowsAll(): boolean {
  return true;
}

/** Throws where it is nothing that `create` has written: half a key must not be a free one. */
function storedOf(value: unknown): Stored {
  if (!isRecord(value)) throw new Error("it is no object");
  const { name, hash, role, models, limits } = value;
  const known = KEY_ROLES.find((one) => one === role);
  if (typeof name !== "string" || typeof hash !== "string" || !/^[0-9a-f]{64}$/.test(hash)) {
    throw new Error("it has no name or no hash");
  }
  if (!known) throw new Error("its role is not known");
  if (!(models === null || (Array.isArray(models) && models.every(isString)))) {
    throw new Error("its models are not a list");
  }
  return {
    name,
    hash,
    role: known,
    models: models as readonly string[] | null,
    limits: limitsOf(limits),
    created_at: time(value["created_at"]) ?? 0,
    expires_at: time(value["expires_at"]),
    revoked_at: time(value["revoked_at"]),
  };
}

function limitsOf(value: unknown): KeyLimits {
  if (!isRecord(value)) throw new Error("it has no limits");
  const limit = (name: keyof KeyLimits) => time(value[name]);
  const limits: KeyLimits = {
    requestsPerMinute: limit("requestsPerMinute"),
    tokensPerMinute: limit("tokensPerMinute"),
    concurrency: limit("concurrency"),
    tokensPerDay: limit("tokensPerDay"),
  };
  // Most keys have none; then they share one object.
  return Object.values(limits).every((one) => one === null) ? NO_LIMITS : limits;
}

/** A number or null. Throws for anything else: a limit that cannot be read must not be none. */
function time(value: unknown): number | null {
  if (value === null || (typeof value === "number" && Number.isFinite(value))) return value;
  throw new Error("it has something else than a number");
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}
