/** Which words of a container tool's command line are options, which are their values. */

export interface OptionGrammar {
  /** Long options without a value, with their dashes. */
  switches: ReadonlySet<string>;
  /** Letters of the short options without a value. */
  letters: string;
}

export interface Option {
  /** `--name` or `-x`. */
  name: string;
  /** Null for an option that stands alone. */
  value: string | null;
  /** The words that it takes up in the command, from `at` on. */
  at: number;
  words: number;
}

export const wordSet = (words: string): ReadonlySet<string> => new Set(words.split(/\s+/));

/** Source: docker/cli's container_run.md, podman-run(1), nerdctl's command reference. */
export const RUN_OPTIONS: OptionGrammar = {
  switches: wordSet(
    `--detach --interactive --tty --quiet --publish-all --help --init --no-healthcheck
    --oom-kill-disable --privileged --read-only --rm --sig-proxy --use-api-socket
    --disable-content-trust --env-host --http-proxy --no-hosts --no-hostname --passwd
    --read-only-tmpfs --replace --rmi --rootfs --tls-verify --unsetenv-all`,
  ),
  letters: "ditqP",
};

/** Options before the subcommand. */
export const TOOL_OPTIONS: OptionGrammar = {
  switches: wordSet(
    `--debug --tls --tlsverify --version --help --remote --syslog --noout --trace
    --transient-store --debug-full --experimental --insecure-registry`,
  ),
  letters: "DrvhV",
};

/** Options between `compose` and its subcommand. */
export const COMPOSE_OPTIONS: OptionGrammar = {
  switches: wordSet(
    `--all-resources --compatibility --dry-run --verbose --version --help --no-ansi
    --skip-hostname-check`,
  ),
  letters: "vh",
};

/** Options of `compose up`. */
export const UP_OPTIONS: OptionGrammar = {
  switches: wordSet(
    `--abort-on-container-exit --abort-on-container-failure --always-recreate-deps --attach-dependencies
    --build --detach --force-recreate --menu --no-build --no-color --no-deps --no-log-prefix
    --no-recreate --no-start --quiet-build --quiet-pull --remove-orphans --renew-anon-volumes
    --timestamps --wait --watch --yes --help --dry-run`,
  ),
  letters: "dVwyh",
};

/**
 * Reads the options from `start` up to the first word that is neither an option nor the value of
 * one. `next` is that word's place; after `--` it is the word that follows.
 */
export function readOptions(
  argv: readonly string[],
  start: number,
  grammar: OptionGrammar,
): { options: Option[]; next: number } {
  const options: Option[] = [];
  let at = start;
  while (at < argv.length) {
    const word = argv[at] ?? "";
    if (word === "--") return { options, next: at + 1 };
    if (!word.startsWith("-") || word === "-") break;
    const read = word.startsWith("--") ? readLong(argv, at, grammar) : readShort(argv, at, grammar);
    options.push(...read);
    at += read.at(-1)?.words ?? 1;
  }
  return { options, next: at };
}

/** Every value of the options with one of these names, in order. */
export function optionValues(options: readonly Option[], ...names: string[]): string[] {
  return options
    .filter((option) => names.includes(option.name))
    .flatMap((option) => (option.value === null ? [] : [option.value]));
}

/** Whether a switch is on: given, and not as `--name=false`. The last use counts. */
export function isOn(options: readonly Option[], ...names: string[]): boolean {
  const last = options.findLast((option) => names.includes(option.name));
  return last !== undefined && !isFalse(last.value);
}

function readLong(argv: readonly string[], at: number, grammar: OptionGrammar): Option[] {
  const word = argv[at] ?? "";
  const cut = word.indexOf("=");
  if (cut >= 0) {
    const value = word.slice(cut + 1);
    return [{ name: word.slice(0, cut), value, at, words: 1 }];
  }
  const value = grammar.switches.has(word) ? null : (argv[at + 1] ?? "");
  return [{ name: word, value, at, words: value === null ? 1 : 2 }];
}

/** `-it` is `-i -t`; `-p80:80` and `-p=80:80` are `-p 80:80`; `-itp 80:80` is all three. */
function readShort(argv: readonly string[], at: number, grammar: OptionGrammar): Option[] {
  const word = (argv[at] ?? "").slice(1);
  const found: Option[] = [];
  for (let i = 0; i < word.length; i += 1) {
    const name = `-${word[i] ?? ""}`;
    const rest = word.slice(i + 1);
    const isSwitch = grammar.letters.includes(word[i] ?? "");
    if (isSwitch && !rest.startsWith("=")) {
      found.push({ name, value: null, at, words: 1 });
      continue;
    }
    const inWord = rest === "" ? null : rest.replace(/^=/, "");
    const value = inWord ?? argv[at + 1] ?? "";
    found.push({ name, value, at, words: inWord === null ? 2 : 1 });
    return found;
  }
  return found;
}

function isFalse(value: string | null): boolean {
  return value !== null && ["false", "0", "f", "no"].includes(value.toLowerCase());
}
