/** Measures a download by the growth of the model cache, where the engine itself prints nothing. */

import { lstat, readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { Environment } from "../shell-words.ts";
import type { EngineKind } from "../status.ts";

export interface CacheGrowth {
  /** Bytes that came since the first look, which is 0. Never rejects; one look at a time. */
  measure(): Promise<number>;
}

const LIMITS = {
  /** Most entries of folders that one look reads. */
  maxEntries: 5_000,
  /** Deepest folder below the cache that is read. */
  maxDepth: 6,
};

export type CacheLimits = typeof LIMITS;

/** All others keep models as Hugging Face's libraries do. */
const NO_HUB: ReadonlySet<EngineKind> = new Set(["ollama", "sim"]);

/**
 * The folders into which an engine downloads models. Sources: huggingface_hub's environment
 * variables (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME), `--download-dir` of vLLM,
 * SGLang and LMDeploy, llama.cpp's LLAMA_CACHE, Ollama's OLLAMA_MODELS.
 */
export function cacheFolders(
  kind: EngineKind,
  { argv, env, cwd }: { argv: readonly string[]; env: Environment; cwd: string },
): string[] {
  const home = env["HOME"] || homedir();
  const caches = env["XDG_CACHE_HOME"] || join(home, ".cache");
  const folders: string[] = [];
  if (kind === "ollama") folders.push(env["OLLAMA_MODELS"] || join(home, ".ollama", "models"));
  if (kind === "llama-server") folders.push(env["LLAMA_CACHE"] || join(caches, "llama.cpp"));
  if (!NO_HUB.has(kind)) {
    const hub = env["HF_HUB_CACHE"] || env["HUGGINGFACE_HUB_CACHE"];
    folders.push(hub || join(env["HF_HOME"] || join(caches, "huggingface"), "hub"));
  }
  const named = argv.flatMap((word, at) => {
    const [flag, value] = word.split("=", 2);
    if (flag !== "--download-dir" && flag !== "--download_dir") return [];
    return [value ?? argv[at + 1] ?? ""];
  });
  folders.push(...named.filter((folder) => folder !== ""));
  return [...new Set(folders.map((folder) => resolve(cwd, folder)))];
}

/** The names of the hub's folders of the models that a command names. */
export function modelFolders(argv: readonly string[]): Set<string> {
  const repositories = argv
    .map((word) => word.slice(word.startsWith("-") ? word.indexOf("=") + 1 : 0).split(":")[0] ?? "")
    .filter((word) => /^[\w.-]+\/[\w.-]+$/.test(word));
  return new Set(repositories.map((name) => `models--${name.replaceAll("/", "--")}`));
}

/**
 * Files that were there at the first look and did not change count nothing; links are not followed.
 * Where `wanted` names folders of models, those of other models are left out.
 */
export function watchCache(
  folders: readonly string[],
  wanted: ReadonlySet<string>,
  limits: CacheLimits = LIMITS,
): CacheGrowth {
  let first: ReadonlyMap<string, number> | null = null;

  const scan = async (): Promise<Map<string, number>> => {
    const sizes = new Map<string, number>();
    const budget = { entries: limits.maxEntries };
    for (const folder of folders) await walk(folder, 0, { sizes, budget, wanted, limits });
    return sizes;
  };
  return {
    async measure() {
      const sizes = await scan();
      first ??= sizes;
      let grown = 0;
      for (const [path, size] of sizes) grown += Math.max(0, size - (first.get(path) ?? 0));
      return grown;
    },
  };
}

interface Walk {
  sizes: Map<string, number>;
  budget: { entries: number };
  wanted: ReadonlySet<string>;
  limits: CacheLimits;
}

async function walk(folder: string, depth: number, state: Walk): Promise<void> {
  const { sizes, budget, wanted, limits } = state;
  // A folder that is not there yet, or not for us, holds nothing that we could count.
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (budget.entries <= 0) return;
    budget.entries -= 1;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      const isOther = wanted.size > 0 && entry.name.startsWith("models--");
      if (isOther && !wanted.has(entry.name)) continue;
      if (depth < limits.maxDepth) await walk(path, depth + 1, state);
    } else if (entry.isFile()) {
      const info = await lstat(path).catch(() => null);
      // What is on the disk: a file may be given its whole length before its first byte.
      if (info) sizes.set(path, Math.min(info.size, info.blocks * 512));
    }
  }
}
