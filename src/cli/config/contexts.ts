/** Heads that have a name in a configuration file: where they are, whom to trust, what to show. */

import { usage } from "../base/messages.ts";
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { shellWord } from "../base/shell-word.ts";
import { type Finding, isTable, kindOf, placed, textIn, tryEach, unknownKey } from "./file.ts";
import type { TomlFile } from "./toml.ts";
import { createOptions, type SourcedText, type Environment } from "../base/options.ts";
import { GLOBAL_OPTIONS } from "../base/spec.ts";

export interface HeadContext {
  url: SourcedText;
  /** Absolute, as the next one. */
  ca: SourcedText | null;
  tokenFile: SourcedText | null;
}

const KEYS = ["url", "ca", "token-file"];
const MAX_TOKEN_BYTES = 64 * 1024;

/** The contexts of one file, by name; what is wrong in them is reported. */
export function readContexts(
  file: TomlFile,
  { env, report }: { env: Environment; report: (finding: Finding) => void },
): Map<string, HeadContext> {
  const contexts = new Map<string, HeadContext>();
  const { heads } = file.content;
  if (heads === undefined) return contexts;
  if (!isTable(heads)) {
    const text = `${file.at(["heads"])}: heads needs tables such as [heads.prod], not ${kindOf(heads)}`;
    report({ isError: true, text });
    return contexts;
  }
  for (const [name, table] of Object.entries(heads)) {
    tryEach(report, () => {
      const path = ["heads", name];
      const shown = `${file.at(path)}: heads.${cleanLine(name, 80)}`;
      if (!isTable(table)) throw usage(`${shown} needs a table with a url, not ${kindOf(table)}`);
      for (const key of Object.keys(table)) {
        if (!KEYS.includes(key.replaceAll("_", "-"))) {
          report(unknownKey(file, [...path, key], { known: KEYS, isError: false }));
        }
      }
      const pathIn = (key: string): SourcedText | null => {
        const found = textIn(file, { path, table }, key);
        return found && { ...found, text: placed(found.text, { path: file.path, env }) };
      };
      const url = textIn(file, { path, table }, "url");
      if (url === null) throw usage(`${shown} needs a url`);
      contexts.set(name, { url, ca: pathIn("ca"), tokenFile: pathIn("token-file") });
    });
  }
  return contexts;
}

export interface HeadRequest {
  flags: ReadonlyMap<string, string[]>;
  env: Environment;
  values: ReadonlyMap<string, SourcedText[]>;
  /** Whether the command has a token file of its own, for something else. */
  hasOwnTokenFile?: boolean;
}

/**
 * The same, with the context that `--head`, its variable or the files name put in its place: its
 * address where the name was, its other values as a file's. A name of no context may be a host's,
 * but not where a file says it.
 */
export function withContext(
  contexts: ReadonlyMap<string, HeadContext>,
  request: HeadRequest,
): HeadRequest {
  const head = GLOBAL_OPTIONS.filter(({ flag }) => flag === "head");
  const asked = createOptions(head, {
    flags: request.flags,
    env: request.env,
    file: request.values,
  });
  const name = asked.text("head") ?? "";
  const from = asked.from("head");
  const context = contexts.get(name);
  if (context === undefined) {
    if (from === "file" && /^[\w-]+$/.test(name) && name !== "localhost") {
      const there = [...contexts.keys()].map((one) => cleanLine(one, 40)).slice(0, 20);
      const known = there.length === 0 ? "" : `; there are: ${there.join(", ")}`;
      throw usage(`${asked.named("head")}: there is no [heads.${cleanLine(name, 80)}]${known}`);
    }
    return request;
  }
  const values = new Map(request.values);
  if (context.ca) values.set("ca", [context.ca]);
  if (context.tokenFile && request.hasOwnTokenFile !== true)
    values.set("token-file", [context.tokenFile]);
  const url = context.url.text;
  if (from === "flag")
    return { ...request, values, flags: new Map(request.flags).set("head", [url]) };
  if (from === "environment")
    return { ...request, values, env: { ...request.env, LLMNODE_HEAD: url } };
  return { ...request, values: values.set("head", [context.url]) };
}

/**
 * The secret that a file has, in one line. Throws `usage`, with the line that mends it, for one that
 * others may read; `named` is what messages call it.
 */
export function readTokenFile(path: string, named: string): string {
  const shown = `${named} ${cleanLine(path, 200)}`;
  let text: string;
  try {
    const file = openSync(path, "r");
    try {
      const { mode, size } = fstatSync(file);
      if ((mode & 0o077) !== 0) {
        throw usage(`${shown} can be read by others`, `chmod 600 ${shellWord(path)}`);
      }
      if (size > MAX_TOKEN_BYTES) throw usage(`${shown} is too large for a token`);
      text = readFileSync(file, "utf8").trim();
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    const missing = systemCode(error) === "ENOENT";
    throw usage(`${shown} cannot be read: ${missing ? "there is no such file" : messageOf(error)}`);
  }
  if (text === "") throw usage(`${shown} is empty`);
  return text;
}
