import { expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import {
  hashCommand,
  openRecord,
  readRecord,
  type RunRecord,
} from "../../../src/engine/process/record.ts";
import { silentLog } from "../../../src/util/log.ts";
import { scratchFolder } from "../harness.ts";

const base = { argv: ["vllm", "serve", "m"], env: { PATH: "/bin", HOME: "/root" }, cwd: "/srv" };
const inherited = { PATH: "/usr/bin", HOME: "/root", SHLVL: "1" };
const hash = (more: Partial<typeof base> & { env?: Record<string, string | undefined> } = {}) =>
  hashCommand({ ...base, ...more }, { port: null, inherited: { ...inherited, PATH: "/bin" } });

test("the same command has the same hash, whatever the login", () => {
  const again = hashCommand(
    { ...base, env: { PATH: "/bin", HOME: "/home/x", SHLVL: "4" } },
    { port: null, inherited: { PATH: "/bin", HOME: "/home/x", SHLVL: "4" } },
  );
  expect(again).toBe(hash());
  expect(hash({ env: { HOME: "/root", PATH: "/bin" } })).toBe(hash());
});

test("what makes another engine makes another hash", () => {
  const all = [
    hash(),
    hash({ argv: ["vllm", "serve", "n"] }),
    hash({ argv: ["vllm", "serve m"] }),
    hash({ cwd: "/home" }),
    hash({ env: { ...base.env, CUDA_VISIBLE_DEVICES: "0" } }),
    hash({ env: { ...base.env, OLLAMA_CONTEXT_LENGTH: "8192" } }),
    // Given to it alone.
    hash({ env: { ...base.env, HF_TOKEN: "hf_x" } }),
    hashCommand(base, { port: 8000, inherited }),
  ];
  expect(new Set(all).size).toBe(all.length);
});

test("a variable that configures engines counts although it is everywhere", () => {
  const env = { ...base.env, VLLM_USE_V1: "0" };
  const everywhere = hashCommand({ ...base, env }, { port: null, inherited: env });
  expect(everywhere).not.toBe(hash());
});

const record: RunRecord = {
  schema: 1,
  engine_id: "e",
  worker_run: "w",
  run: "r",
  pid: 4711,
  start_time: "12",
  boot_id: "b",
  command_hash: "c",
  kind: "vllm",
  restarts: 0,
  log_start: 10,
  address: null,
  ending: false,
};

test("a record is read as it was written, changes and removal included", async () => {
  await using scratch = await scratchFolder();
  const file = openRecord(scratch.path, silentLog);
  file.update({ ending: true });
  expect(readRecord(scratch.path)).toBeNull();
  file.write(record);
  expect(readRecord(scratch.path)).toEqual(record);
  file.update({ address: { host: "127.0.0.1", port: 8000 }, ending: true });
  expect(readRecord(scratch.path)).toMatchObject({ ending: true, address: { port: 8000 } });
  file.remove();
  expect(readRecord(scratch.path)).toBeNull();
  file.remove();
});

test("what is no record is none", async () => {
  await using scratch = await scratchFolder();
  const file = path.join(scratch.path, "engine.json");
  openRecord(scratch.path, silentLog).write(record);
  const text = await readFile(file, "utf8");
  const changed = (more: object) => JSON.stringify({ ...JSON.parse(text), ...more });
  for (const bad of [
    "",
    "null",
    "[]",
    text.slice(0, -5),
    changed({ schema: 2 }),
    changed({ pid: 1 }),
    changed({ pid: -5 }),
    changed({ pid: 1.5 }),
    changed({ run: 7 }),
    changed({ address: { host: "x" } }),
    changed({ ending: "no" }),
  ]) {
    await writeFile(file, bad);
    expect(readRecord(scratch.path)).toBeNull();
  }
});

test("a folder that cannot be written to is told, and costs nothing", () => {
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (text: string) => void warnings.push(text) };
  openRecord("/proc/nowhere", log).write(record);
  expect(warnings.join()).toContain("cannot write down what runs here");
});
