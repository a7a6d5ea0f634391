/** Commands that do one of several things, named by their first word: `key create`, `key list`. */

import { usage } from "../base/messages.ts";
import { cleanLine } from "../../util/text.ts";
import type { HeadClient } from "../client/api.ts";
import type { Invocation } from "../base/spec.ts";
import { suggest } from "../base/suggest.ts";
import type { Terminal } from "../base/terminal.ts";

/** What an action that asks the head is given. */
export interface HeadJob {
  client: HeadClient;
  invocation: Invocation;
  terminal: Terminal;
}

/** The action of that name. Throws `usage`, with the one that was meant or with all there are. */
export function actionNamed<A>(
  command: string,
  actions: Readonly<Record<string, A>>,
  word: string,
): A {
  const found = Object.hasOwn(actions, word) ? actions[word] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(actions);
  const meant = suggest(word, names);
  const what = `${command} has no action "${cleanLine(word, 80)}"`;
  throw usage(
    meant === null
      ? `${what}; there are: ${names.join(", ")}`
      : `${what}: did you mean "${meant}"?`,
  );
}

/** The head's JSON with `--json`, else this text for a person; null: nothing on stdout. */
export function printAnswer(
  { invocation, terminal }: HeadJob,
  answer: string,
  text: string | null,
): void {
  if (invocation.options.isOn("json")) terminal.out.write(`${answer.trimEnd()}\n`);
  else if (text !== null) terminal.out.write(`${text}\n`);
}
