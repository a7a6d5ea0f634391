import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { JOIN_TOKEN_FILE } from "../../src/protocol/head-files.ts";
import { type KeyringOptions, openKeyring } from "../../src/worker/credential.ts";
import { memoryLog } from "../helpers/cluster.ts";
import { type TempDir, tempDir } from "../helpers/temp.ts";

const A = { secret: "a".repeat(48), fingerprint: "A".repeat(43) };
const B = { secret: "b".repeat(48), fingerprint: "B".repeat(43) };
const whole = ({ secret, fingerprint }: typeof A) => `${secret}.${fingerprint}`;
const certificate = ({ fingerprint }: typeof A) => ({ pem: "", fingerprint });
const C = "c".repeat(48);

const options = (dir: TempDir, more: Partial<KeyringOptions> = {}): KeyringOptions => ({
  dir: dir.path,
  dataDir: dir.path,
  headHost: "127.0.0.1",
  joinToken: null,
  log: memoryLog().log,
  ...more,
});

/** As the head beside this worker has it. */
function putBeside(dir: TempDir, text: string): void {
  mkdirSync(path.join(dir.path, "head"), { recursive: true });
  writeFileSync(path.join(dir.path, JOIN_TOKEN_FILE), text);
}

/** As a head gave it. */
function putKept(dir: TempDir, head: typeof A): void {
  const keyring = openKeyring(options(dir));
  keyring.verified(certificate(head));
  keyring.keep(C);
}

test("a join token from a person names the one head that is trusted", () => {
  using dir = tempDir();
  putBeside(dir, whole(B));
  putKept(dir, B);
  const keyring = openKeyring(options(dir, { joinToken: ` ${whole(A)}\n` }));
  expect(keyring.keys()).toEqual([
    { fingerprint: A.fingerprint, credential: null, joinToken: A.secret },
  ]);
});

test("the credential goes along to the head that gave it, and to no other", () => {
  using dir = tempDir();
  putKept(dir, A);
  expect(openKeyring(options(dir, { joinToken: whole(A) })).keys()).toEqual([
    { fingerprint: A.fingerprint, credential: C, joinToken: A.secret },
  ]);
  putBeside(dir, whole(B));
  expect(openKeyring(options(dir)).keys()).toEqual([
    { fingerprint: B.fingerprint, credential: null, joinToken: B.secret },
    { fingerprint: A.fingerprint, credential: C, joinToken: null },
  ]);
  // Elsewhere the head beside this worker is not meant.
  expect(openKeyring(options(dir, { headHost: "10.255.255.1" })).keys()).toEqual([
    { fingerprint: A.fingerprint, credential: C, joinToken: null },
  ]);
});

test("the join token beside a head is read anew each time: the head may start later", () => {
  using dir = tempDir();
  const keyring = openKeyring(options(dir));
  expect(keyring.keys()).toEqual([]);
  putBeside(dir, `${whole(A)}\n`);
  expect(keyring.keys()).toMatchObject([{ joinToken: A.secret }]);
  putBeside(dir, whole(A).slice(0, 60));
  expect(keyring.keys()).toEqual([]);
});

test.each(["localhost", "::1", os.hostname(), outward()])("%s is this machine", (headHost) => {
  using dir = tempDir();
  putBeside(dir, whole(A));
  expect(openKeyring(options(dir, { headHost })).keys().length).toBe(1);
});

test("without anything to show elsewhere it is said how to get it", () => {
  using dir = tempDir();
  putBeside(dir, whole(A));
  expect(() => openKeyring(options(dir, { headHost: "head.example" }))).toThrow(
    "joining head.example needs a join token",
  );
});

test.each(["", "x", whole(A).slice(1), `${whole(A)}x`, A.secret, `${A.secret}.`, "\u001b[31m"])(
  "%p is no join token",
  (joinToken) => {
    using dir = tempDir();
    expect(() => openKeyring(options(dir, { joinToken }))).toThrow("the join token is incomplete");
  },
);

test("what is kept is for the owner's eyes only; a damaged file is as good as none", () => {
  using dir = tempDir();
  putKept(dir, A);
  const file = path.join(dir.path, "credential.json");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const text = readFileSync(file, "utf8");
  for (const damaged of ["", text.slice(0, 30), "[]", "null", text.replace(C, `${C}\\n`)]) {
    writeFileSync(file, damaged);
    expect([damaged, openKeyring(options(dir)).keys()]).toEqual([damaged, []]);
  }
});

test("a credential that cannot be kept is told, and nothing breaks", () => {
  using dir = tempDir();
  const { log, lines } = memoryLog();
  const keyring = openKeyring(options(dir, { dir: path.join(dir.path, "gone"), log }));
  rmSync(path.join(dir.path, "gone"), { recursive: true, force: true });
  keyring.keep(C);
  expect(lines.join("")).toContain("the credential cannot be kept");
  expect(lines.join("")).not.toContain(C);
});

function outward(): string {
  const all = Object.values(os.networkInterfaces()).flatMap((list) => list ?? []);
  return all.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.2";
}
