/** The documents of the project, as tests read them. */

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { shellCommands } from "../../src/engine/shell-words.ts";

export const ROOT = path.resolve(import.meta.dir, "../..");

/** Below the root, with slashes. */
export const PAGES: readonly string[] = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "SECURITY.md",
  "src/README.md",
  ...readdirSync(path.join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name.replaceAll(path.sep, "/")}`)
    .sort(),
];

export const readPage = (page: string) => readFileSync(path.join(ROOT, page), "utf8");

export interface Block {
  language: string;
  /** Continued lines are one line. */
  lines: string[];
}

/** The fenced blocks; `within`: only those below this title. */
export function fencedBlocks(text: string, within?: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | null = null;
  let title = "";
  for (const line of text.replaceAll("\\\n", "").split("\n")) {
    const fence = /^```(\S*)$/.exec(line);
    if (fence !== null) {
      if (open === null) open = { language: fence[1] ?? "", lines: [] };
      else {
        if (within === undefined || title === within) blocks.push(open);
        open = null;
      }
    } else if (open !== null) open.lines.push(line);
    else title = /^## (.*)/.exec(line)?.[1] ?? title;
  }
  return blocks;
}

/** What stands in single backticks, outside of blocks. */
export function inlineCode(text: string): string[] {
  const prose = text.replace(/^```[^]*?^```$/gm, "");
  return [...prose.matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code.replaceAll("\\|", "|"));
}

/** What a reader puts something of their own in for, and what a test puts in. */
const PLACEHOLDERS: Readonly<Record<string, string>> = {
  URL: "http://127.0.0.1:1",
  CIDR: "10.0.0.0/8",
  "HOST:PORT": "127.0.0.1:1",
  "HEAD:8092": "127.0.0.1:8092",
};

/**
 * The words after `llmnode` of each command in a line. In place of `<anything>` there is `X`, and
 * for words in capitals what they stand for.
 */
export function llmnodeCommands(line: string): string[][] {
  const plain = line
    .replace(/^ExecStart=\S*\//, "")
    .replaceAll(/<[^<>()]+>/g, "X")
    .replaceAll(/\b(HOST:PORT|HEAD:8092|URL|CIDR)\b/g, (word) => PLACEHOLDERS[word] ?? word)
    .replaceAll(/\$\(\([^()]*\)\)/g, "20000")
    .replaceAll(/"?\$\([^()]*\)"?/g, "18:30");
  return [...shellCommands(plain, { HOME: "/home/x", SLURM_JOB_ID: "7" })].flatMap((words) => {
    const at = words.findIndex((word) => /^(.*\/)?llmnode$/.test(word));
    // `source <(llmnode ...)` and the like begin with something else; so do variables.
    const isCommand = at === 0 || words.slice(0, at).every((word) => /=|^exec$|^sudo$/.test(word));
    return at >= 0 && isCommand ? [words.slice(at + 1)] : [];
  });
}
