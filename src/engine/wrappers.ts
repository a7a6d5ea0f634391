/** Peels off the programs that only start another one: `env`, `sudo`, `uv run`, `bash -c`, ... */

import { shellCommands, type Environment } from "./shell-words.ts";

interface Command {
  argv: readonly string[];
  env: Environment;
}

/** What is left of a command without its wrappers, and the environment that they set. */
export interface Peeled extends Command {
  /** The last part of its program's path. */
  program: string;
}

interface Wrapper {
  /** The word that must follow, as in `uv run`. */
  subcommand?: string;
  /** Flags that take the next word, or several, as their value. */
  values?: Record<string, number>;
  /** Words of its own before the command. */
  words?: number;
  /** Whether `NAME=value` words may stand before the command. */
  assignments?: boolean;
  /** Whether `-m` names a Python module to run. */
  modules?: boolean;
}

const one = (flags: string): Record<string, number> =>
  Object.fromEntries(flags.split(" ").map((flag) => [flag, 1]));

const PYTHON_RUN = one("-p --python --with --with-editable --extra --group --env-file --directory");

// What people put before an engine; the flags are those of the tools' manual pages.
const WRAPPERS: Record<string, Wrapper> = {
  env: { assignments: true, values: one("-u --unset -C --chdir") },
  sudo: { assignments: true, values: one("-u -g -h -p -C -D -r -t -T -U --user --group") },
  nohup: {},
  exec: { values: one("-a") },
  nice: { values: one("-n --adjustment") },
  ionice: { values: one("-c -n --class --classdata") },
  setsid: {},
  stdbuf: { values: one("-i -o -e --input --output --error") },
  numactl: {
    values: one(
      "-N -m -C -i -p -w --cpunodebind --membind --physcpubind --interleave --preferred --weighted-interleave",
    ),
  },
  taskset: { words: 1 },
  chrt: { words: 1 },
  time: { values: one("-f -o --format --output") },
  timeout: { words: 1, values: one("-k -s --kill-after --signal") },
  tini: { values: one("-e -p") },
  "dumb-init": { values: one("-r --rewrite") },
  uv: { subcommand: "run", modules: true, values: PYTHON_RUN },
  uvx: { values: { ...PYTHON_RUN, ...one("--from") } },
  pixi: { subcommand: "run", values: one("-e --environment --manifest-path") },
  poetry: { subcommand: "run", values: one("-C --directory -P --project") },
  conda: { subcommand: "run", values: one("-n -p --name --prefix --cwd") },
  mamba: { subcommand: "run", values: one("-n -p --name --prefix --cwd") },
  micromamba: { subcommand: "run", values: one("-n -p -a --name --prefix --cwd") },
  mpirun: {
    values: {
      ...one("-n -np -c -N -H -x -wd -hostfile --hostfile --host --bind-to --map-by --rank-by"),
      ...{ "-mca": 2, "--mca": 2 },
    },
  },
  "trtllm-llmapi-launch": {},
  srun: {
    values: one("-N -n -c -p -t -J -w -x -G -A -q -o -e -D --gres --nodes --ntasks --partition"),
  },
};
const ALIASES: Record<string, string> = { mpiexec: "mpirun", gnice: "nice", gtimeout: "timeout" };
const SHELLS = new Set(["bash", "sh", "dash", "zsh", "ksh"]);
// Wrappers nest in practice three or four deep; the limit only guards against a silly command.
const MAX_DEPTH = 16;

/** Most likely first; more than one only for a shell's `-c` line, the last command first. */
export function peelWrappers(argv: readonly string[], env: Environment): Peeled[] {
  return peel({ argv, env }, 0);
}

/** The last part of a program's path. */
export function programName(word: string | undefined): string {
  return (word ?? "").split("/").at(-1) ?? "";
}

function peel(command: Command, depth: number): Peeled[] {
  const name = programName(command.argv[0]);
  if (depth >= MAX_DEPTH || command.argv.length < 2) return [bare(command)];
  if (SHELLS.has(name)) return peelShell(command, depth);
  const wrapper = WRAPPERS[ALIASES[name] ?? name];
  const inner = wrapper ? unwrap(command, wrapper) : null;
  return inner ? peel(inner, depth + 1) : [bare(command)];
}

function bare(command: Command): Peeled {
  return { ...command, program: programName(command.argv[0]) };
}

function unwrap({ argv, env }: Command, wrapper: Wrapper): Command | null {
  let i = 1;
  if (wrapper.subcommand !== undefined) {
    const at = argv.indexOf(wrapper.subcommand);
    if (at < 0) return null;
    i = at + 1;
  }
  for (; argv[i]?.startsWith("-"); i += 1) {
    const flag = argv[i] ?? "";
    if (flag === "--") {
      i += 1;
      break;
    }
    // `uv run -m vllm...` names a Python module: what follows is Python's, not the wrapper's.
    if (wrapper.modules && (flag === "-m" || flag === "--module")) {
      return { argv: ["python", "-m", ...argv.slice(i + 1)], env };
    }
    if (!flag.includes("=")) i += wrapper.values?.[flag] ?? 0;
  }
  i += wrapper.words ?? 0;
  const set: Environment = { ...env };
  if (wrapper.assignments) i = readAssignments(argv, i, set);
  return i < argv.length ? { argv: argv.slice(i), env: set } : null;
}

function peelShell(command: Command, depth: number): Peeled[] {
  let i = 1;
  for (; /^[-+]/.test(command.argv[i] ?? ""); i += 1) {
    const flag = command.argv[i] ?? "";
    if (/^-[A-Za-z]*c/.test(flag)) return peelLine(command.argv[i + 1] ?? "", command, depth);
    if (/^[-+][A-Za-z]*[oO]$/.test(flag)) i += 1;
  }
  return [bare(command)];
}

function peelLine(line: string, outer: Command, depth: number): Peeled[] {
  const env: Environment = { ...outer.env };
  const found: Peeled[] = [];
  for (const rawWords of shellCommands(line, env)) {
    const words = rawWords[0] === "export" ? rawWords.slice(1) : rawWords;
    const local: Environment = { ...env };
    const start = readAssignments(words, 0, local);
    // `A=b` alone and `export A=b` hold for the commands that follow, `A=b cmd` for that one only.
    if (start >= words.length) Object.assign(env, local);
    else found.unshift(...peel({ argv: words.slice(start), env: local }, depth + 1));
  }
  return found.length > 0 ? found : [bare(outer)];
}

function readAssignments(words: readonly string[], start: number, into: Environment): number {
  let i = start;
  for (; i < words.length; i += 1) {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(words[i] ?? "");
    if (!match) break;
    into[match[1] ?? ""] = match[2] ?? "";
  }
  return i;
}
