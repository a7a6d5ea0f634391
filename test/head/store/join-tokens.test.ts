import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  type JoinTokens,
  type JoinTokenRequest,
  openJoinTokens,
} from "../../../src/head/store/join-tokens.ts";
import { openStore } from "../../../src/head/store/store.ts";
import { parseJoinToken } from "../../../src/protocol/head-files.ts";
import { silentLog } from "../../../src/util/log.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

const FINGERPRINT = "f".repeat(43);
const wish = (more: Partial<JoinTokenRequest> = {}): JoinTokenRequest => ({
  expiresInMs: null,
  uses: null,
  models: null,
  note: "",
  ...more,
});

interface Opened extends AsyncDisposable {
  tokens: JoinTokens;
  clock: { now: number };
}

async function open(
  dir: TempDir,
  more: { fingerprint?: string; maxTokens?: number } = {},
): Promise<Opened> {
  const store = openStore({ dir: path.join(dir.path, "head"), log: silentLog });
  const clock = { now: Date.parse("2026-01-01T00:00:00Z") };
  const tokens = await openJoinTokens({
    store,
    file: path.join(dir.path, "head/join-token"),
    fingerprint: FINGERPRINT,
    now: () => clock.now,
    ...more,
  });
  return { tokens, clock, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

const secretOf = (token: string | null) => parseJoinToken(token ?? "")?.secret ?? "";

test("the first one is made once, can be read by its owner, and stays over restarts", async () => {
  using dir = tempDir();
  let first: string | null;
  {
    await using opened = await open(dir);
    first = opened.tokens.first();
    expect(first).toMatch(/^[0-9a-f]{48}\.f{43}$/);
    expect(opened.tokens.check(secretOf(first))).toMatchObject({ ok: true, models: null });
    const file = path.join(dir.path, "head/join-token");
    expect(readFileSync(file, "utf8")).toBe(`${first}\n`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  }
  await using again = await open(dir);
  expect(again.tokens.first()).toBe(first);
  expect(again.tokens.list()).toMatchObject([{ first: true, state: "active" }]);
});

test("a head with another key has the same first secret under its new fingerprint", async () => {
  using dir = tempDir();
  let first: string | null;
  {
    await using opened = await open(dir);
    first = opened.tokens.first();
  }
  await using again = await open(dir, { fingerprint: "g".repeat(43) });
  expect(again.tokens.first()).toBe(`${secretOf(first)}.${"g".repeat(43)}`);
  expect(readFileSync(path.join(dir.path, "head/join-token"), "utf8")).toContain("ggg");
});

test.each(["removed", "cut", "foreign"])(
  "a first token whose file was %s is made anew, and the old one ends",
  async (how) => {
    using dir = tempDir();
    const file = path.join(dir.path, "head/join-token");
    let old: string;
    {
      await using opened = await open(dir);
      old = secretOf(opened.tokens.first());
    }
    if (how === "removed") rmSync(file);
    else writeFileSync(file, how === "cut" ? old.slice(0, 20) : `${"a".repeat(48)}.${FINGERPRINT}`);
    await using again = await open(dir);
    expect(again.tokens.check(old)).toMatchObject({ ok: false, code: "join_token_revoked" });
    expect(again.tokens.check(secretOf(readFileSync(file, "utf8")))).toMatchObject({ ok: true });
  },
);

test("secrets are at rest in no file but the first one's own", async () => {
  using dir = tempDir();
  const secrets: string[] = [];
  {
    await using opened = await open(dir);
    secrets.push(secretOf(opened.tokens.first()));
    secrets.push(secretOf((await opened.tokens.create(wish())).token));
    secrets.push(secretOf(await opened.tokens.rotate()));
    expect(JSON.stringify(opened.tokens.list())).not.toMatch(new RegExp(secrets.join("|")));
  }
  const found = readdirSync(path.join(dir.path, "head")).flatMap((name) => {
    const text = readFileSync(path.join(dir.path, "head", name), "latin1");
    return secrets.flatMap((secret, i) => (text.includes(secret) ? [[name, i]] : []));
  });
  expect(found).toEqual([["join-token", 2]]);
});

test("expired, used up, revoked and unknown ones are told apart, with when", async () => {
  using dir = tempDir();
  await using opened = await open(dir);
  const { tokens, clock } = opened;
  const make = async (more: Partial<JoinTokenRequest>) => {
    const { token, info } = await tokens.create(wish(more));
    return { secret: secretOf(token), id: info.id };
  };
  const short = await make({ expiresInMs: 60_000 });
  const twice = await make({ uses: 2, models: "q*", note: "for two" });
  const gone = await make({});
  expect(tokens.check(short.secret)).toMatchObject({ ok: true });
  clock.now += 60_000;
  expect(tokens.check(short.secret)).toMatchObject({
    ok: false,
    code: "join_token_expired",
    reason: "the join token expired at 2026-01-01T00:01:00Z",
  });
  await tokens.use(twice.id);
  expect(tokens.check(twice.secret)).toEqual({ ok: true, id: twice.id, models: "q*" });
  await tokens.use(twice.id);
  expect(tokens.check(twice.secret)).toMatchObject({
    code: "join_token_used_up",
    reason: "the join token was for 2 workers, which joined already",
  });
  expect(await tokens.revoke(gone.id)).toMatchObject({ id: gone.id, state: "revoked" });
  expect(tokens.check(gone.secret)).toMatchObject({
    code: "join_token_revoked",
    reason: "the join token was revoked at 2026-01-01T00:01:00Z",
  });
  await expect(tokens.revoke("nothing")).rejects.toMatchObject({ code: "not_found" });
  for (const wrong of ["", "0".repeat(48), short.secret.slice(1), `${short.secret}0`]) {
    expect(tokens.check(wrong)).toMatchObject({ ok: false, code: "join_token_wrong", id: null });
  }
  const states = tokens.list().map(({ state }) => state);
  expect(states.sort()).toEqual(["active", "expired", "revoked", "used_up"]);
});

test("rotate ends the first one and no other; revoking the first one leaves none", async () => {
  using dir = tempDir();
  let other: string;
  {
    await using opened = await open(dir);
    const { tokens } = opened;
    const first = secretOf(tokens.first());
    other = secretOf((await tokens.create(wish())).token);
    const next = await tokens.rotate();
    expect(tokens.first()).toBe(next);
    expect(tokens.check(first)).toMatchObject({ code: "join_token_revoked" });
    expect(tokens.check(secretOf(next))).toMatchObject({ ok: true });
    const current = tokens.list().find((info) => info.first && info.state === "active");
    await tokens.revoke(current?.id ?? "");
    expect(tokens.first()).toBe(null);
    expect(existsSync(path.join(dir.path, "head/join-token"))).toBe(false);
  }
  await using again = await open(dir);
  // What an operator took back does not come again by itself.
  expect([again.tokens.first(), again.tokens.check(other).ok]).toEqual([null, true]);
  const made = await again.tokens.rotate();
  expect(again.tokens.first()).toBe(made);
});

test("ended ones make room for new ones; without any, the limit is told", async () => {
  using dir = tempDir();
  await using opened = await open(dir, { maxTokens: 3 });
  const { tokens } = opened;
  const { info } = await tokens.create(wish());
  await tokens.create(wish());
  await expect(tokens.create(wish())).rejects.toMatchObject({ code: "refused" });
  await tokens.revoke(info.id);
  await tokens.create(wish());
  expect(tokens.list().length).toBe(3);
  expect(tokens.list().some(({ id }) => id === info.id)).toBe(false);
});
