import { expect, test } from "bun:test";
import { mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheFolders, modelFolders, watchCache } from "../../../src/engine/ask/cache-growth.ts";
import { scratchFolder } from "../harness.ts";

const MIB = 1024 * 1024;

async function put(folder: string, path: string, bytes: number): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), new Uint8Array(bytes).fill(7));
}

test("where engines keep what they download", () => {
  const of = (kind: Parameters<typeof cacheFolders>[0], env = {}, argv: string[] = []) =>
    cacheFolders(kind, { argv, env: { HOME: "/home/u", ...env }, cwd: "/work" });
  expect(of("vllm")).toEqual(["/home/u/.cache/huggingface/hub"]);
  expect(of("vllm", { XDG_CACHE_HOME: "/x" })).toEqual(["/x/huggingface/hub"]);
  expect(of("sglang", { HF_HOME: "/hf", XDG_CACHE_HOME: "/x" })).toEqual(["/hf/hub"]);
  expect(of("tgi", { HUGGINGFACE_HUB_CACHE: "/data" })).toEqual(["/data"]);
  expect(of("tei", { HF_HUB_CACHE: "/a", HF_HOME: "/b" })).toEqual(["/a"]);
  expect(of("ollama")).toEqual(["/home/u/.ollama/models"]);
  expect(of("ollama", { OLLAMA_MODELS: "/models" })).toEqual(["/models"]);
  expect(of("llama-server", { LLAMA_CACHE: "/c" })).toEqual([
    "/c",
    "/home/u/.cache/huggingface/hub",
  ]);
  expect(of("vllm", {}, ["--download-dir", "w", "m"])).toContain("/work/w");
  expect(of("vllm", {}, ["--download-dir=/w"])).toContain("/w");
  expect(of("vllm", {}, ["--download-dir"])).toHaveLength(1);
  expect(of("sim")).toEqual([]);
});

test("the folders of the models that a command names", () => {
  const folders = modelFolders(["vllm", "serve", "org/m-1", "--tokenizer=a/b", "-hf", "u/r:Q4"]);
  expect([...folders]).toEqual(["models--org--m-1", "models--a--b", "models--u--r"]);
  expect(modelFolders(["vllm", "serve", "/models/m", "--port", "80"]).size).toBe(0);
});

test("growth is what came since the first look", async () => {
  await using scratch = await scratchFolder();
  await put(scratch.path, "hub/models--o--m/blobs/old", MIB);
  await put(scratch.path, "hub/models--o--m/blobs/half.incomplete", MIB);
  const cache = watchCache([join(scratch.path, "hub"), join(scratch.path, "none")], new Set());
  expect(await cache.measure()).toBe(0);
  await put(scratch.path, "hub/models--o--m/blobs/half.incomplete", 3 * MIB);
  expect(await cache.measure()).toBe(2 * MIB);
  await put(scratch.path, "none/new", MIB);
  expect(await cache.measure()).toBe(3 * MIB);
  await symlink(join(scratch.path, "none/new"), join(scratch.path, "hub/link"));
  expect(await cache.measure()).toBe(3 * MIB);
});

test("a file that is done and gets its name still counts", async () => {
  await using scratch = await scratchFolder();
  const cache = watchCache([scratch.path], new Set());
  await cache.measure();
  await put(scratch.path, "a.incomplete", 2 * MIB);
  expect(await cache.measure()).toBe(2 * MIB);
  await rename(join(scratch.path, "a.incomplete"), join(scratch.path, "a"));
  expect(await cache.measure()).toBe(2 * MIB);
});

test("other models' folders are left out where the command names its own", async () => {
  await using scratch = await scratchFolder();
  const cache = watchCache([scratch.path], new Set(["models--o--mine"]));
  await cache.measure();
  await put(scratch.path, "models--o--other/blobs/x", MIB);
  await put(scratch.path, "models--o--mine/blobs/x", 2 * MIB);
  await put(scratch.path, "tmp/x", 3 * MIB);
  expect(await cache.measure()).toBe(5 * MIB);
});

test("one look is bounded, in entries and in depth", async () => {
  await using scratch = await scratchFolder();
  const limits = { maxEntries: 10, maxDepth: 2 };
  const cache = watchCache([scratch.path], new Set(), limits);
  await cache.measure();
  await put(scratch.path, "1/2/3/deep", MIB);
  expect(await cache.measure()).toBe(0);
  await put(scratch.path, "1/2/shallow", MIB);
  expect(await cache.measure()).toBe(MIB);
  for (let i = 0; i < 50; i += 1) await put(scratch.path, `1/many/${i}`, 4096);
  expect(await cache.measure()).toBeLessThanOrEqual(MIB + 10 * 4096);
});
