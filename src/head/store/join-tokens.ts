/** Join tokens: made, counted and taken back here; only their hashes are kept, the first one's aside. */

import { timingSafeEqual } from "node:crypto";
import { rmSync } from "node:fs";
import { type ErrorCode, LlmnodeError, messageOf } from "../../protocol/errors.ts";
import {
  formatJoinToken,
  newSecret,
  parseJoinToken,
  readIfThere,
} from "../../protocol/head-files.ts";
import { digest } from "../../util/digest.ts";
import { writeSecretFile } from "../../util/secret-file.ts";
import type { Store } from "./store.ts";

export interface JoinTokensOptions {
  store: Store;
  /** Where the first join token can be read by the head's own user. */
  file: string;
  fingerprint: string;
  now: () => number;
  /** How many are remembered; ended ones make room for new ones. */
  maxTokens?: number;
}

export interface JoinTokenRequest {
  /** Milliseconds from now; null: for ever. */
  expiresInMs: number | null;
  /** How many workers may join with it; null: any number. */
  uses: number | null;
  /** Which models its workers may announce, with `*`; null: any. */
  models: string | null;
  note: string;
}

export type JoinTokenState = "active" | "expired" | "used_up" | "revoked";

export type JoinTokenInfo = Omit<Kept, "hash" | "revokedAt"> & {
  id: string;
  state: JoinTokenState;
};

export type JoinTokenCheck =
  | { ok: true; id: string; models: string | null }
  /** `id` and `models` of one that was good once. */
  | { ok: false; id: string | null; models: string | null; code: ErrorCode; reason: string };

export interface JoinTokens {
  /** The token is shown this once. Throws `refused` when there are too many. */
  create(request: JoinTokenRequest): Promise<{ token: string; info: JoinTokenInfo }>;
  /** The first token, whole; null when it was revoked. */
  first(): string | null;
  /** Revokes the first token and makes another. */
  rotate(): Promise<string>;
  /** Throws `not_found`. */
  revoke(id: string): Promise<JoinTokenInfo>;
  /** The oldest first. */
  list(): JoinTokenInfo[];
  check(secret: string): JoinTokenCheck;
  /** Counts a worker that has joined with it. */
  use(id: string): Promise<void>;
}

interface Kept {
  /** Of the secret, in hex. */
  hash: string;
  /** Whether it is the one that `show` shows. */
  first: boolean;
  createdAt: number;
  expiresAt: number | null;
  usesMax: number | null;
  used: number;
  models: string | null;
  note: string;
  revokedAt: number | null;
}

const PREFIX = "join-tokens/";
const FOR_EVER: JoinTokenRequest = { expiresInMs: null, uses: null, models: null, note: "" };

/** Makes the first join token where there never was one. Throws `data_dir_unusable`. */
export async function openJoinTokens(options: JoinTokensOptions): Promise<JoinTokens> {
  const { fingerprint, file } = options;
  const records = new Records(options);
  const tokenOf = (secret: string) => formatJoinToken({ secret, fingerprint });
  const makeFirst = async () => {
    const before = records.all().filter(({ kept }) => isFirst(kept));
    const { secret } = await records.create(FOR_EVER, true);
    writeFirst(file, tokenOf(secret));
    firstSecret = secret;
    for (const { id } of before) await records.end(id);
    return tokenOf(secret);
  };

  let firstSecret = readFirst(file);
  if (firstSecret !== null && records.check(firstSecret).ok) {
    // The head may have another key than when this was written.
    writeFirst(file, tokenOf(firstSecret));
  } else {
    firstSecret = null;
    const known = records.all();
    const wasMade = known.some(({ kept }) => kept.first);
    const isLost = known.some(({ kept }) => isFirst(kept));
    if (!wasMade || isLost) await makeFirst();
    else rmSync(file, { force: true });
  }

  return {
    create: async (request) => {
      const { secret, info } = await records.create(request, false);
      return { token: tokenOf(secret), info };
    },
    first: () => (firstSecret === null ? null : tokenOf(firstSecret)),
    rotate: makeFirst,
    async revoke(id) {
      const info = await records.end(id);
      if (firstSecret !== null && !records.check(firstSecret).ok) {
        rmSync(file, { force: true });
        firstSecret = null;
      }
      return info;
    },
    list: () => records.list(),
    check: (secret) => records.check(secret),
    use: (id) => records.use(id),
  };
}

/** The tokens in the store, without their secrets. */
class Records {
  readonly #options: JoinTokensOptions;

  constructor(options: JoinTokensOptions) {
    this.#options = options;
  }

  all(): { id: string; kept: Kept }[] {
    return this.#options.store.list(PREFIX).map(({ key, value }) => ({
      id: key.slice(PREFIX.length),
      kept: value as Kept,
    }));
  }

  list(): JoinTokenInfo[] {
    return this.all()
      .map(({ id, kept }) => this.#infoOf(id, kept))
      .sort((a, b) => a.createdAt - b.createdAt);
  }

  async create(
    request: JoinTokenRequest,
    first: boolean,
  ): Promise<{ secret: string; info: JoinTokenInfo }> {
    await this.#makeRoom();
    const { now } = this.#options;
    const secret = newSecret();
    const id = newSecret().slice(0, 8);
    const kept: Kept = {
      hash: digest(secret).toString("hex"),
      first,
      createdAt: now(),
      expiresAt: request.expiresInMs === null ? null : now() + request.expiresInMs,
      usesMax: request.uses,
      used: 0,
      models: request.models,
      note: request.note,
      revokedAt: null,
    };
    await this.#keep(id, kept);
    return { secret, info: this.#infoOf(id, kept) };
  }

  async end(id: string): Promise<JoinTokenInfo> {
    const found = this.#find(id);
    if (!found) throw new LlmnodeError("not_found", `there is no join token ${id.slice(0, 40)}`);
    const kept = { ...found, revokedAt: found.revokedAt ?? this.#options.now() };
    await this.#keep(id, kept);
    return this.#infoOf(id, kept);
  }

  async use(id: string): Promise<void> {
    const kept = this.#find(id);
    if (kept) await this.#keep(id, { ...kept, used: kept.used + 1 });
  }

  check(secret: string): JoinTokenCheck {
    const hash = digest(secret);
    let found: { id: string; kept: Kept } | null = null;
    // All are compared, each in constant time.
    for (const one of this.all()) {
      if (timingSafeEqual(hash, Buffer.from(one.kept.hash, "hex"))) found = one;
    }
    if (!found) {
      const reason = "this head does not know the join token";
      return { ok: false, id: null, models: null, code: "join_token_wrong", reason };
    }
    const { id, kept } = found;
    const state = stateOf(kept, this.#options.now());
    if (state === "active") return { ok: true, id, models: kept.models };
    return { ok: false, id, models: kept.models, ...REFUSALS[state](kept) };
  }

  #find(id: string): Kept | null {
    return this.all().find((one) => one.id === id)?.kept ?? null;
  }

  #keep(id: string, kept: Kept): Promise<void> {
    return this.#options.store.put(PREFIX + id, kept, { durable: true });
  }

  async #makeRoom(): Promise<void> {
    const { store, now, maxTokens = 1000 } = this.#options;
    const known = this.all();
    if (known.length < maxTokens) return;
    const ended = known
      .filter(({ kept }) => stateOf(kept, now()) !== "active")
      .sort((a, b) => a.kept.createdAt - b.kept.createdAt)[0];
    if (!ended) {
      throw new LlmnodeError("refused", `there are ${known.length} join tokens already`, {
        hints: ["revoke some:   llmnode join-token list"],
      });
    }
    await store.delete(PREFIX + ended.id, { durable: true });
  }

  #infoOf(id: string, kept: Kept): JoinTokenInfo {
    const { hash: _hash, revokedAt: _revokedAt, ...rest } = kept;
    return { id, state: stateOf(kept, this.#options.now()), ...rest };
  }
}

function isFirst({ first, revokedAt }: Kept): boolean {
  return first && revokedAt === null;
}

const REFUSALS: Record<
  Exclude<JoinTokenState, "active">,
  (kept: Kept) => { code: ErrorCode; reason: string }
> = {
  expired: ({ expiresAt }) => ({
    code: "join_token_expired",
    reason: `the join token expired at ${instant(expiresAt)}`,
  }),
  used_up: ({ usesMax }) => ({
    code: "join_token_used_up",
    reason: `the join token was for ${usesMax} worker${usesMax === 1 ? "" : "s"}, which joined already`,
  }),
  revoked: ({ revokedAt }) => ({
    code: "join_token_revoked",
    reason: `the join token was revoked at ${instant(revokedAt)}`,
  }),
};

function stateOf(kept: Kept, now: number): JoinTokenState {
  if (kept.revokedAt !== null) return "revoked";
  if (kept.expiresAt !== null && now >= kept.expiresAt) return "expired";
  return kept.usesMax !== null && kept.used >= kept.usesMax ? "used_up" : "active";
}

function instant(at: number | null): string {
  return new Date(at ?? 0).toISOString().slice(0, 19) + "Z";
}

function readFirst(file: string): string | null {
  try {
    return parseJoinToken(readIfThere(file) ?? "")?.secret ?? null;
  } catch (error) {
    throw unusable(file, error);
  }
}

function writeFirst(file: string, token: string): void {
  try {
    writeSecretFile(file, `${token}\n`);
  } catch (error) {
    throw unusable(file, error);
  }
}

function unusable(file: string, cause: unknown): LlmnodeError {
  return new LlmnodeError("data_dir_unusable", `cannot use ${file}: ${messageOf(cause)}`, {
    hints: ["choose another folder: llmnode head --data-dir DIR"],
    cause,
  });
}
