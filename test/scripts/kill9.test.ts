import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { createLedger } from "../../scripts/kill9/ledger.ts";
import { killRounds } from "../../scripts/kill9/rounds.ts";
import { tempDir } from "../helpers/temp.ts";

const ROOT = resolve(import.meta.dir, "../..");

test("nothing that a head confirmed is lost when it is killed, and its store opens each time", async () => {
  using dir = tempDir();
  const result = await killRounds({
    program: [process.execPath, resolve(ROOT, "src/main.ts")],
    root: ROOT,
    folder: dir.path,
    rounds: 5,
    operators: 2,
    seed: 3,
    lifeMs: 400,
    signal: new AbortController().signal,
  });
  expect(result.lost).toEqual([]);
  expect(result.confirmed).toBeGreaterThan(4);
}, 60_000);

test("a head that does not start is told of, with its last words", async () => {
  using dir = tempDir();
  const failed = await killRounds({
    program: ["sh", "-c", "echo 'no store here' >&2; exit 1"],
    root: ROOT,
    folder: dir.path,
    ...{ rounds: 1, operators: 1, seed: 1, lifeMs: 10 },
    signal: new AbortController().signal,
  }).then(() => null, String);
  expect(failed).toContain(
    "round 1: the head does not start; the head's last words:\nno store here",
  );
});

test("the ledger tells what is not as it was confirmed, and only that", () => {
  const ledger = createLedger();
  ledger.is("keys/a", "active");
  ledger.is("keys/b", "active");
  ledger.mayBecome("keys/b", "revoked");
  ledger.mayBecome("aliases/c", "m1");
  const compare = (...found: [string, string][]) => ledger.compare(new Map(found));
  expect(compare(["keys/a", "active"], ["keys/b", "revoked"], ["others/x", "1"])).toEqual([]);
  expect(compare(["keys/a", "active"], ["keys/b", "active"])).toEqual([
    "keys/b is active, it should be revoked",
  ]);
  expect(compare(["keys/b", "active"])).toEqual(["keys/a is absent, it should be active"]);
  expect(ledger.confirmed).toBe(2);
});
