import { afterEach, beforeEach, expect, test } from "bun:test";
import path from "node:path";
import { createCredentials, type Credentials } from "../../../src/head/sessions/credentials.ts";
import {
  createGate,
  type Gate,
  type Shown,
  type Verdict,
} from "../../../src/head/sessions/gate.ts";
import { type JoinTokens, openJoinTokens } from "../../../src/head/store/join-tokens.ts";
import { openStore, type Store } from "../../../src/head/store/store.ts";
import { parseJoinToken } from "../../../src/protocol/head-files.ts";
import { silentLog } from "../../../src/util/log.ts";
import { hello } from "../../cluster/fixtures.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

const NOW = Date.parse("2026-01-01T00:00:00Z");
let dir: TempDir;
let store: Store;
let joinTokens: JoinTokens;
let credentials: Credentials;
let gate: Gate;

beforeEach(async () => {
  dir = tempDir();
  const now = () => NOW;
  store = openStore({ dir: path.join(dir.path, "head"), log: silentLog });
  const file = path.join(dir.path, "head/join-token");
  joinTokens = await openJoinTokens({ store, file, fingerprint: "f".repeat(43), now });
  credentials = createCredentials({ store, now, maxCredentials: 4 });
  gate = createGate({ joinTokens, credentials, now });
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const show = (more: Partial<Shown>): Shown => ({ credential: null, joinToken: null, ...more });
const first = () => parseJoinToken(joinTokens.first() ?? "")?.secret ?? "";

async function made(more: object): Promise<string> {
  const wish = { expiresInMs: null, uses: null, models: null, note: "", ...more };
  const { token } = await joinTokens.create(wish);
  return parseJoinToken(token)?.secret ?? "";
}

function code(verdict: Verdict): string {
  return verdict.allowed ? "allowed" : verdict.refusal.code;
}

/** Lets a worker in; gives the credential that it then shows. */
async function enter(id: string, shown: Partial<Shown>): Promise<string> {
  const verdict = gate(hello(id), show(shown));
  if (!verdict.allowed) throw new Error(verdict.refusal.code);
  const credential = await verdict.enter(id);
  return credential || (shown.credential ?? "");
}

test("without anything, and with what nobody knows, there is no way in", () => {
  expect(code(gate(hello("a"), show({})))).toBe("join_token_missing");
  expect(code(gate(hello("a"), show({ joinToken: "0".repeat(48) })))).toBe("join_token_wrong");
  expect(code(gate(hello("a"), show({ credential: "0".repeat(48) })))).toBe("credential_unknown");
});

test("a join token lets in once, and the credential from then on, whatever becomes of it", async () => {
  const credential = await enter("a", { joinToken: first() });
  expect(credential).toMatch(/^[0-9a-f]{48}$/);
  await joinTokens.rotate();
  expect(code(gate(hello("a"), show({ credential })))).toBe("allowed");
  expect(await enter("a", { credential })).toBe(credential);
});

test("a credential is good for its own worker only", async () => {
  const credential = await enter("a", { joinToken: first() });
  expect(code(gate(hello("b"), show({ credential })))).toBe("credential_unknown");
});

test("an old credential of a worker that joined anew is worth nothing", async () => {
  const old = await enter("a", { joinToken: first() });
  await enter("a", { credential: old });
  const next = await enter("a", { joinToken: first() });
  expect(next).not.toBe(old);
  expect(code(gate(hello("a"), show({ credential: old })))).toBe("credential_unknown");
});

test("a token for one worker is for one: not replayed by another, but again by the same whose answer was lost", async () => {
  const joinToken = await made({ uses: 1 });
  await enter("a", { joinToken });
  expect(code(gate(hello("b"), show({ joinToken })))).toBe("join_token_used_up");
  const credential = await enter("a", { joinToken });
  await enter("a", { credential, joinToken });
  // It has shown that it has its credential: from now on the token is used up for it as well.
  expect(code(gate(hello("a"), show({ joinToken })))).toBe("join_token_used_up");
});

test("two that come at once cannot both use the last use", async () => {
  const joinToken = await made({ uses: 1 });
  const a = gate(hello("a"), show({ joinToken }));
  if (!a.allowed) throw new Error(a.refusal.code);
  const entering = a.enter("a");
  expect(code(gate(hello("b"), show({ joinToken })))).toBe("join_token_used_up");
  await entering;
});

test("a pattern goes with the worker, and a token with another one replaces it", async () => {
  const narrow = await made({ models: "q*" });
  const credential = await enter("a", { joinToken: narrow });
  expect(gate(hello("a"), show({ credential }))).toMatchObject({ models: "q*" });
  expect(gate(hello("a"), show({ credential, joinToken: narrow }))).toMatchObject({ models: "q*" });
  const wide = await made({ models: "*" });
  await enter("a", { credential, joinToken: wide });
  expect(gate(hello("a"), show({ credential }))).toMatchObject({ models: "*" });
  // One that ended changes nothing for a worker that has its credential.
  const ended = await made({ models: "z*", uses: 1 });
  await enter("b", { joinToken: ended });
  expect(gate(hello("a"), show({ credential, joinToken: ended }))).toMatchObject({ models: "*" });
});

test("a worker that was sent away stays away, until somebody starts it anew with a join token", async () => {
  const credential = await enter("a", { joinToken: first() });
  await credentials.forget("worker-a", "run-a");
  for (const shown of [
    { credential },
    { joinToken: first() },
    { credential, joinToken: first() },
  ]) {
    expect(code(gate(hello("a"), show(shown)))).toBe("worker_forgotten");
  }
  const anew = hello("a", { run: "run-2" });
  expect(code(gate(anew, show({ credential })))).toBe("worker_forgotten");
  expect(code(gate(anew, show({ joinToken: "0".repeat(48) })))).toBe("join_token_wrong");
  const verdict = gate(anew, show({ credential, joinToken: first() }));
  if (!verdict.allowed) throw new Error(verdict.refusal.code);
  const next = await verdict.enter("a");
  expect(code(gate(anew, show({ credential: next })))).toBe("allowed");
  expect(code(gate(anew, show({ credential })))).toBe("credential_unknown");
});

test("clocks more than a day apart are refused with both", () => {
  const joinToken = first();
  const at = (sentAt: number) => gate(hello("a", { sentAt }), show({ joinToken }));
  expect(code(at(NOW + 86_400_000))).toBe("allowed");
  expect(code(at(0))).toBe("allowed");
  for (const wrong of [NOW - 86_400_001, NOW + 86_400_001, 1]) {
    expect(code(at(wrong))).toBe("clock_off");
  }
  const verdict = at(Date.parse("2020-02-02T02:02:02Z"));
  expect(verdict).toMatchObject({
    refusal: {
      reason: expect.stringMatching(/clock says 2020-02-02T02:02:02.000Z, the head's 2026-01-01/),
      retry: false,
    },
  });
  for (const odd of [Number.NaN, Infinity, -Infinity, 1e300])
    expect(code(at(odd))).toBe("clock_off");
  // Who may not come in is not told the time.
  expect(code(gate(hello("a", { sentAt: 1 }), show({})))).toBe("join_token_missing");
});

test("the workers longest away make room", async () => {
  for (const id of ["a", "b", "c", "d", "e"]) await enter(id, { joinToken: first() });
  expect(store.list("credentials/").length).toBe(4);
  expect(credentials.get("worker-e")).not.toBe(null);
});
