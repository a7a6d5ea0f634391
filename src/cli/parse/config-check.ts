/** Looks through configuration files for all that is wrong in them, not for the first thing alone. */

import { usage } from "../base/messages.ts";
import { statSync } from "node:fs";
import { cleanLine } from "../../util/text.ts";
import { parseHeadUrl } from "../client/api.ts";
import { shellWord } from "../base/shell-word.ts";
import {
  fileSpecs,
  type Finding,
  isTable,
  readTable,
  type TableValues,
  tryEach,
} from "../config/file.ts";
import {
  type ConfigPlaces,
  type ConfigSource,
  configSources,
  isShared,
  openSource,
  readCommandTable,
  readTop,
  refuseTokens,
} from "../config/layers.ts";
import type { TomlFile } from "../config/toml.ts";
import { type HeadContext, readContexts, readTokenFile, withContext } from "../config/contexts.ts";
import { createOptions, type SourcedText, type Environment } from "../base/options.ts";
import { type CommandSpec, GLOBAL_OPTIONS } from "../base/spec.ts";

export interface Checked {
  /** Those that were there. */
  files: string[];
  findings: Finding[];
}

interface Check {
  commands: readonly CommandSpec[];
  env: Environment;
  report: (finding: Finding) => void;
}

/** Never throws for what a file has in it. */
export function checkConfig(places: ConfigPlaces, commands: readonly CommandSpec[]): Checked {
  const files: string[] = [];
  const findings: Finding[] = [];
  const { env } = places;
  const check: Check = { commands, env, report: (finding) => findings.push(finding) };
  const contexts = new Map<string, HeadContext>();
  const values = new Map<string, SourcedText[]>();
  for (const source of configSources(places)) {
    tryEach(check.report, () => {
      const file = openSource(source);
      if (file === null) return;
      files.push(file.shown);
      if (source.kind === "given" && !isShared(file)) checkOwn(file, check);
      else {
        const shared = checkShared(file, source, check);
        for (const [name, context] of shared.contexts) contexts.set(name, context);
        const head = shared.top.get("head");
        if (head && source.kind !== "here") values.set("head", head);
      }
    });
  }
  // What the files name; not what a flag or a variable names instead.
  tryEach(check.report, () => void withContext(contexts, { flags: new Map(), env: {}, values }));
  return { files, findings };
}

/** The command that a file for one command alone is for: the one that knows most of its keys. */
export function commandOf(file: TomlFile, commands: readonly CommandSpec[]): CommandSpec {
  const missing = (command: CommandSpec): number => {
    let count = 0;
    readOwn(file, command, { env: {}, report: () => void (count += 1) });
    return count;
  };
  const daemons = commands.filter(({ isDaemon }) => isDaemon === true);
  const [best] = daemons.toSorted((a, b) => missing(a) - missing(b));
  if (best === undefined) throw new Error("no command takes a file");
  return best;
}

function readOwn(
  file: TomlFile,
  command: CommandSpec,
  { env, report }: Pick<Check, "env" | "report">,
): TableValues {
  return readTable({
    file,
    path: [],
    table: file.content,
    specs: fileSpecs(command),
    ...(command.configKeys && { configKeys: command.configKeys }),
    ignored: ["schema"],
    isStrict: true,
    env,
    report,
  });
}

function checkOwn(file: TomlFile, check: Check): void {
  const command = commandOf(file, check.commands);
  const found = readOwn(file, command, check);
  checkReaders(file, found, check);
  checkValues(command, found, check);
}

function checkShared(
  file: TomlFile,
  { kind }: ConfigSource,
  check: Check,
): { top: TableValues["values"]; contexts: Map<string, HeadContext> } {
  const top = readTop(file, check).values;
  for (const command of check.commands) {
    const table = file.content[command.name];
    if (command.hasConfigTable !== true || !isTable(table)) continue;
    const found = readCommandTable(file, { ...check, command, table });
    if (kind === "here") refuseTokens(found.values, check.report);
    else checkReaders(file, found, check);
    checkValues(command, found, check);
  }
  const contexts = readContexts(file, check);
  for (const context of contexts.values()) checkContext(context, check);
  if (kind === "here" && (contexts.size > 0 || isTable(file.content["top"]))) {
    const text = `${file.shown}: in a file of the current folder only [head] and [join] count`;
    check.report({ isError: false, text });
  }
  return { top, contexts };
}

/** A secret that stands in the file is for its owner's eyes. */
function checkReaders(file: TomlFile, { values }: TableValues, { report }: Check): void {
  const token = values.get("token")?.[0];
  if (token === undefined || (statSync(file.path).mode & 0o077) === 0) return;
  const text = `${token.source} can be read by others`;
  report({ isError: false, text, hint: `chmod 600 ${shellWord(file.path)}` });
}

/** As the command itself does, but for what the file leaves to a command line. */
function checkValues(command: CommandSpec, found: TableValues, { report }: Check): void {
  const options = createOptions([...command.options, ...GLOBAL_OPTIONS], {
    flags: new Map(),
    env: {},
    file: found.values,
  });
  const hasEngine = found.values.has("attach") || found.rest !== null;
  tryEach(report, () => {
    command.check?.({
      command,
      words: [found.argument?.text ?? "127.0.0.1"],
      rest: found.rest?.words ?? (hasEngine ? null : ["engine"]),
      isRestFromFile: found.rest !== null,
      options,
      env: {},
      warnings: [],
    });
  });
}

function checkContext({ url, tokenFile }: HeadContext, { report }: Check): void {
  tryEach(report, () => {
    if (parseHeadUrl(url.text) === null) {
      const needed = "a host, host:port or URL such as https://head-1:8092";
      const message = `${url.source} needs ${needed}, not "${cleanLine(url.text, 80)}"`;
      throw usage(message);
    }
  });
  tryEach(report, () => {
    if (tokenFile !== null) readTokenFile(tokenFile.text, tokenFile.source);
  });
}
