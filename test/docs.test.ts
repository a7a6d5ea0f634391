import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { globalOptionsOf } from "../src/cli/base/spec.ts";
import { commandTable } from "../src/cli/commands.ts";
import { parseCommandLine } from "../src/cli/parse/parse.ts";
import {
  fencedBlocks,
  inlineCode,
  llmnodeCommands,
  PAGES,
  readPage,
  ROOT,
} from "./helpers/documents.ts";
import { tempDir } from "./helpers/temp.ts";

/** As the sites that show Markdown name a title. */
function anchorsOf(page: string): Set<string> {
  const prose = readPage(page).replace(/^```[^]*?^```$/gm, "");
  return new Set(
    [...prose.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
      title
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

test("README.md is at most 10 KB", () => {
  expect(Buffer.byteLength(readPage("README.md"))).toBeLessThanOrEqual(10_240);
});

describe.each(PAGES)("%s", (page) => {
  test("its links lead somewhere", () => {
    const text = readPage(page).replace(/^```[^]*?^```$/gm, "");
    const wrong = [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = ""]) => {
      if (/^https?:/.test(target)) return [];
      const [file = "", anchor] = target.split("#");
      const found = file === "" ? page : path.posix.join(path.posix.dirname(page), file);
      if (!existsSync(path.join(ROOT, found))) return [target];
      return anchor === undefined || anchorsOf(found).has(anchor) ? [] : [target];
    });
    expect(wrong).toEqual([]);
  });

  test("the paths that it names exist", () => {
    const text = readPage(page);
    const words = [
      ...inlineCode(text),
      ...fencedBlocks(text).flatMap(({ lines }) => lines),
    ].flatMap((code) => code.split(/[\s"'=]+/));
    const wrong = words
      .filter((word) => /^(src|test|scripts|docs|proto|\.ci|\.github)\//.test(word))
      .filter((word) => !/[*<>$]/.test(word))
      .filter((word) => !existsSync(path.join(ROOT, word)));
    expect(wrong).toEqual([]);
  });
});

test("metrics, variables and headers of ours that the documents name are in the source", () => {
  const files = [...new Bun.Glob("**/*.{ts,tsx}").scanSync(path.join(ROOT, "src"))];
  // Most variables are made from the names of their options.
  const variables = commandTable().flatMap(({ options }) => options.map(({ env }) => env ?? ""));
  const source = [...files.map((file) => readPage(`src/${file}`)), ...variables].join("\n");
  const names = PAGES.flatMap((page) => [
    ...readPage(page).matchAll(/\b(llmnode_[a-z_]+|LLMNODE_[A-Z_]+|x-llmnode-[a-z-]+)/g),
  ]).map(([name]) => name.replace(/^LLMNODE_SET_.*/, "LLMNODE_SET_"));
  expect([...new Set(names)].filter((name) => !source.includes(name))).toEqual([]);
  expect(names.length).toBeGreaterThan(25);
});

test("the map names every room, and no other", () => {
  const folders = (of: string) =>
    readdirSync(path.join(ROOT, "src", of), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort();
  const sections = readPage("src/README.md").split(/^(?=\*\*`)/m);
  for (const folder of folders("")) {
    const own = sections.find((section) => section.startsWith(`**\`${folder}/\`**`)) ?? "";
    const rooms = [...own.matchAll(/^\| `([a-z-]+)\/`/gm)].map(([, name = ""]) => name);
    expect([folder, ...rooms.sort()]).toEqual([folder, ...folders(folder)]);
  }
});

describe("what the documents say to type is understood", () => {
  const folder = tempDir();
  afterAll(() => folder[Symbol.dispose]());
  const worker = path.join(folder.path, "worker.toml");
  beforeAll(() => {
    const [toml] = fencedBlocks(readPage("docs/workers.md")).filter(
      ({ language }) => language === "toml",
    );
    writeFileSync(worker, toml?.lines.join("\n") ?? "", { mode: 0o600 });
    writeFileSync(path.join(folder.path, "token"), "", { mode: 0o600 });
    writeFileSync(path.join(folder.path, "secrets.env"), "HF_TOKEN=x\n", { mode: 0o600 });
  });
  const env = { HOME: folder.path, HF_TOKEN: "x" };

  /** The files that a line names are the reader's; ours are put in. */
  const withFiles = (words: string[]) =>
    words.map((word, i) => {
      const isFile = words[i - 1] === "--config";
      return isFile ? (word.endsWith("worker.toml") ? worker : "/dev/null") : word;
    });

  const typed = PAGES.flatMap((page) => {
    const text = readPage(page);
    const fenced = fencedBlocks(text)
      .filter(({ language }) => !["text", "mermaid"].includes(language))
      .flatMap(({ lines }) => lines);
    // In a sentence `llmnode join` is the command's name, and `a|b` or `...` how something is written.
    const inline = inlineCode(text).filter((code) => /^llmnode \S+ \S/.test(code));
    return [...fenced, ...inline.filter((code) => !/\.\.\.|[[\]|]/.test(code))].flatMap((line) =>
      llmnodeCommands(line).map((words) => ({ page, line: line.trim(), words })),
    );
  });

  test("the commands that sentences name exist", () => {
    const names = new Set(commandTable().flatMap(({ name, aliases = [] }) => [name, ...aliases]));
    const named = PAGES.flatMap((page) => inlineCode(readPage(page))).flatMap(
      (code) => /^llmnode ([a-z][a-z-]*)/.exec(code)?.[1] ?? [],
    );
    expect(named.filter((name) => !names.has(name))).toEqual([]);
  });

  test("the options that sentences name with their command exist", () => {
    const flags = new Map(
      commandTable().map((command) => [
        command.name,
        [...command.options, ...globalOptionsOf(command)].map(({ flag }) => `--${flag}`),
      ]),
    );
    const wrong = PAGES.flatMap((page) => inlineCode(readPage(page))).filter((code) => {
      const [name = "", ...words] =
        code
          .replace(/^llmnode /, "")
          .split(" -- ")[0]
          ?.split(/[ =[]/) ?? [];
      const known = flags.get(name);
      return known && words.some((word) => word.startsWith("--") && !known.includes(word));
    });
    expect(wrong).toEqual([]);
  });

  test("there are many", () => expect(typed.length).toBeGreaterThan(150));

  test.each(typed.map((one) => [one.page, one.line, one.words] as const))(
    "%s: %s",
    (_page, _line, words) => {
      const given = withFiles([...words]);
      const invocation = parseCommandLine(given, commandTable(), env);
      expect(invocation.warnings).toEqual([]);
      // The files of secrets that a line names are the reader's.
      if (!given.includes("--token-file") && !given.includes("--env-file")) {
        invocation.command.check?.(invocation);
      }
    },
  );
});
