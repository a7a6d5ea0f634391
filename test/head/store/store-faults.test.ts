/** The head's store on a disk that is full: what was confirmed stays, the rest is refused. */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import path from "node:path";
import { openStore } from "../../../src/head/store/store.ts";
import { silentLog } from "../../../src/util/log.ts";
import { operatorOf } from "../../helpers/cluster.ts";
import { runProcess, spawnProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const MAIN = path.resolve(import.meta.dir, "../../../src/main.ts");
const PRLIMIT = Bun.which("prlimit");
// No file may grow beyond a limit: for those who write it, that is a full disk. It can be lifted.
const possible = process.platform === "linux" && PRLIMIT !== null;

async function limitFiles(pid: number, limit: string): Promise<void> {
  const { code, stderr } = await runProcess(["prlimit", `--pid=${pid}`, `--fsize=${limit}:`]);
  expect([code, stderr]).toEqual([0, ""]);
}

test.skipIf(!possible)("a full disk: requests go on, no change is lost or made up", async () => {
  using dir = tempDir();
  const dataDir = path.join(dir.path, "data");
  const args = ["head", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"];
  // The signal that comes with the limit would end it; disks that are full send none.
  const start = 'trap "" XFSZ; exec "$@"';
  const env = Object.fromEntries(
    Object.keys(process.env)
      .filter((name) => name.startsWith("LLMNODE_"))
      .map((name) => [name, undefined]),
  );
  await using head = spawnProcess(
    ["bash", "-c", start, "bash", process.execPath, MAIN, ...args, "--data-dir", dataDir],
    { env: { ...env, HOME: dir.path, XDG_CONFIG_HOME: undefined } },
  );
  const [, url = ""] = await head.waitForLine(/msg="head is up" url=(\S+)/, { timeoutMs: 20_000 });
  const headers = { "content-type": "application/json", ...operatorOf(dataDir) };
  const set = async (name: string) => {
    const body = JSON.stringify({ alias: `${name}=m`, force: false });
    const answer = await fetch(`${url}/api/v1/aliases`, { method: "POST", headers, body });
    return { status: answer.status, text: await answer.text() };
  };
  const names = async () => {
    const answer = await fetch(`${url}/api/v1/aliases`, { headers });
    const { aliases } = (await answer.json()) as { aliases: { name: string }[] };
    return aliases.map(({ name }) => name).sort();
  };
  expect((await set("before")).status).toBe(200);
  await limitFiles(head.pid, "1024");
  const refused = await set("meanwhile");
  expect(refused.status).toBeGreaterThanOrEqual(500);
  expect(refused.text).toContain("cannot write there");
  await waitFor(() => head.stderr().includes("store cannot be written"));
  expect(await names()).toEqual(["before"]);
  expect((await fetch(`${url}/health/ready`)).status).toBe(200);
  expect((await fetch(`${url}/v1/models`)).status).toBe(200);
  await limitFiles(head.pid, "unlimited");
  expect((await set("after")).status).toBe(200);
  expect(head.stderr()).toContain("can be written again");
  expect(await names()).toEqual(["after", "before"]);
  head.kill("SIGKILL");
  await head.finished;
  await using store = openStore({ dir: path.join(dataDir, "head"), log: silentLog });
  expect(store.list("aliases/").map(({ key }) => key)).toEqual(["aliases/after", "aliases/before"]);
});

test("a value that is no JSON is damage too, and the file is free again", async () => {
  using dir = tempDir();
  const store = openStore({ dir: dir.path, log: silentLog });
  await store.put("k", 1, { durable: true });
  await store[Symbol.asyncDispose]();
  const { Database } = await import("bun:sqlite");
  const database = new Database(path.join(dir.path, "store.sqlite"));
  database.run("UPDATE entries SET value = '{' WHERE key = 'k'");
  database.close();
  for (let round = 0; round < 2; round += 1) {
    expect(() => openStore({ dir: dir.path, log: silentLog })).toThrow(
      /its store is damaged: start from a backup \(llmnode head restore/,
    );
  }
  expect(existsSync(path.join(dir.path, "store.sqlite"))).toBe(true);
});
