/** Each value that counts for a command, with where it is from and without secrets. */

import { maskSecrets } from "../../util/mask.ts";
import { cleanLine } from "../../util/text.ts";
import { shellWord } from "../base/shell-word.ts";
import { fileSpecs, GENERAL } from "./file.ts";
import type { Gathered } from "./layers.ts";
import { withContext } from "./contexts.ts";
import {
  createOptions,
  type Options,
  type ValueSource,
  type Environment,
  type OptionSpec,
} from "../base/options.ts";
import { type CommandSpec, GLOBAL_OPTIONS } from "../base/spec.ts";

export interface ConfigRow {
  /** `join.port`. */
  key: string;
  /** Null: nothing is said, and there is no fixed default. */
  value: string | null;
  from: ValueSource;
  /** `--port`, `LLMNODE_PORT`, `worker.toml:3`, `default`. */
  source: string;
  /** What counts where `value` is null. */
  note: string | null;
}

export interface Given {
  config: Gathered;
  flags: ReadonlyMap<string, string[]>;
  env: Environment;
}

/** The options of a command, as far as a file may give them, and its argument and words. */
export function commandRows(command: CommandSpec, { config, flags, env }: Given): ConfigRow[] {
  const general = GENERAL.map(({ flag }) => flag);
  const specs = fileSpecs(command).filter(({ flag }) => !general.includes(flag));
  const options = createOptions(specs, { flags, env, file: config.values });
  const { argument, rest } = config;
  const keys = command.configKeys;
  const own = (name: string, found: { text: string; at?: string } | null): ConfigRow => ({
    key: `${command.name}.${name}`,
    value: found && maskSecrets(found.text),
    from: found === null ? "default" : "file",
    source: found?.at ?? "default",
    note: null,
  });
  return [
    ...(keys === undefined
      ? []
      : [
          own(keys.argument, argument),
          own(keys.rest, rest && { text: rest.words.map(shellWord).join(" "), at: rest.at }),
        ]),
    ...specs.map((spec) => rowOf(spec, `${command.name}.${spec.flag}`, options)),
  ];
}

/** The options of every command, and the heads that have names. */
export function generalRows({ config, flags, env }: Given): ConfigRow[] {
  const specs = GLOBAL_OPTIONS.filter(({ flag }) => flag !== "help" && flag !== "version");
  const name = createOptions(specs, { flags, env, file: config.values }).text("head") ?? "";
  const request = withContext(config.contexts, { flags, env, values: config.values });
  const options = createOptions(specs, {
    flags: request.flags,
    env: request.env,
    file: request.values,
  });
  const contexts = [...config.contexts].flatMap(([own, { url, ca, tokenFile }]) => {
    const parts = { url, ca, "token-file": tokenFile };
    return Object.entries(parts).flatMap(([key, found]): ConfigRow[] => {
      if (found === null) return [];
      const value = maskSecrets(found.text);
      const row = { key: `heads.${cleanLine(own, 80)}.${key}`, value, note: null };
      return [{ ...row, from: "file", source: found.at ?? found.source }];
    });
  });
  return [
    ...specs.map((spec) => {
      const row = rowOf(spec, spec.flag, options);
      const isNamed = spec.flag === "head" && config.contexts.has(name);
      return isNamed ? { ...row, source: `${row.source} (heads.${cleanLine(name, 80)})` } : row;
    }),
    ...contexts,
  ];
}

function rowOf(spec: OptionSpec, key: string, options: Options): ConfigRow {
  const given = options.each(spec.flag);
  const from = options.from(spec.flag);
  const sources = new Set(given.map(({ at, source }) => at ?? source));
  return {
    key,
    value: given.length === 0 ? null : given.map(({ text }) => shownValue(spec, text)).join(", "),
    from,
    source: from === "default" ? "default" : [...sources].join(", "),
    note: spec.defaultNote ?? (spec.value === undefined ? "false" : null),
  };
}

function shownValue(spec: OptionSpec, text: string): string {
  if (spec.isSecret !== true) return maskSecrets(text);
  const equals = spec.table === undefined ? -1 : text.indexOf("=");
  // A name alone has no secret in it.
  if (spec.table !== undefined && equals === -1) return text;
  return `${text.slice(0, equals + 1)}***`;
}
