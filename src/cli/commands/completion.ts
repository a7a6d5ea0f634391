/** `llmnode completion`: a script for a shell, and the hidden command that the script asks. */

import { usage } from "../base/messages.ts";
import { cleanLine } from "../../util/text.ts";
import { headClient } from "../client/api.ts";
import { type Candidate, complete, type LiveKind } from "../complete/complete.ts";
import { ASK_MS, cacheDirectory, liveNames } from "../complete/names.ts";
import { completionScript, SHELLS } from "../complete/scripts.ts";
import { EXIT } from "../base/exit-codes.ts";
import { readLine } from "../parse/line.ts";
import { parseCommandLine } from "../parse/parse.ts";
import type { CommandSpec } from "../base/spec.ts";
import type { Environment } from "../base/options.ts";

export const completionCommand: CommandSpec = {
  name: "completion",
  usage: "completion bash|zsh|fish",
  summary: "print a script that completes commands, options and names at the prompt",
  details: [
    "bash:   source <(llmnode completion bash)            in ~/.bashrc",
    "zsh:    source <(llmnode completion zsh)             in ~/.zshrc, after compinit",
    "fish:   llmnode completion fish | source             in ~/.config/fish/config.fish",
    "Names of workers, models, engines and requests are asked of the head: at most 300 ms, and again",
    "after 5 s.",
  ],
  argument: { name: "shell", required: true, words: SHELLS },
  options: [],
  ignoresConfig: true,
  examples: ["llmnode completion bash"],
  run({ words }, terminal) {
    const shell = SHELLS.find((one) => one === words[0]);
    if (shell === undefined) {
      const shown = cleanLine(words[0] ?? "", 80);
      throw usage(`completion is for ${SHELLS.join(", ")}, not for "${shown}"`);
    }
    terminal.out.write(completionScript(shell));
    return Promise.resolve(EXIT.ok);
  },
};

/** It knows all others, so it is made from them. */
export function completeCommand(others: readonly CommandSpec[]): CommandSpec {
  const self: CommandSpec = {
    name: "__complete",
    usage: "__complete -- <word>...",
    summary: "what the last word can become",
    isHidden: true,
    takesRest: true,
    ignoresConfig: true,
    options: [],
    examples: [],
    async run({ rest, env }, terminal) {
      const words = rest ?? [];
      const names = (kind: LiveKind) => namesFor(kind, words, { self, env });
      const { candidates, files } = await complete(words, { commands: others, names });
      const lines = candidates.map(({ value, note }) => `${value}\t${cleanLine(note, 100)}`);
      terminal.out.write(`${[...lines, files ? ":0" : ":4"].join("\n")}\n`);
      return EXIT.ok;
    },
  };
  return self;
}

/** Of the head that the typed words, the environment and the configuration files mean. */
async function namesFor(
  kind: LiveKind,
  words: readonly string[],
  { self, env }: { self: CommandSpec; env: Environment },
): Promise<Candidate[]> {
  try {
    const { flags } = readLine(words.slice(0, -1), []);
    const typed = ["head", "ca", "token-file"].flatMap((flag) => {
      const value = flags.get(flag)?.at(-1);
      // Standard input is the shell's here.
      return value === undefined || value === "-" ? [] : [`--${flag}=${value}`];
    });
    const asker = { ...self, ignoresConfig: false };
    const client = headClient(parseCommandLine([self.name, ...typed], [asker], env));
    const quick = { ...client, timeoutMs: ASK_MS, retryPausesMs: [] };
    return await liveNames(kind, { client: quick, cacheDir: cacheDirectory(env), now: Date.now() });
  } catch {
    return []; // what is wrong is said when the command runs
  }
}
