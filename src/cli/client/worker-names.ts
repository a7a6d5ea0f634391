/** Names the workers that a person may have meant by a name that is none. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { HeadClient } from "./api.ts";
import { readStatus } from "./head-json.ts";
import { suggest } from "../base/suggest.ts";

/** Throws the error; where it is about a worker that is not there, with hints. */
export async function nameOthers(
  error: unknown,
  { client, command, words }: { client: HeadClient; command: string; words: readonly string[] },
): Promise<never> {
  if (!(error instanceof LlmnodeError) || error.code !== "worker_not_found") throw error;
  const unknown = error.subject ?? "";
  const names = await readStatus(client).then(
    ({ workers }) => workers.map(({ name }) => name),
    () => [],
  );
  // One that is asked for already is not what was meant.
  const near = suggest(
    unknown,
    names.filter((name) => !words.includes(name)),
  );
  const meant =
    near === null
      ? words
      : words.map((word) => {
          const isMeant = word === unknown || word.startsWith(`${unknown}/`);
          return isMeant ? near + word.slice(unknown.length) : word;
        });
  const hints = [
    ...(near === null ? [] : [`did you mean   llmnode ${command} ${meant.join(" ")}`]),
    names.length === 0
      ? "there are no workers (yet)"
      : `workers: ${names.slice(0, 8).join(", ")}${names.length > 8 ? ", ..." : ""}`,
  ];
  throw new LlmnodeError(error.code, error.message, { hints });
}
