/** `llmnode wait`: until workers or models are as wanted. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { ModelRow, WorkerRow } from "../../protocol/watch-rows.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { type HeadClient, headClient } from "../client/api.ts";
import { EXIT, isRetryable } from "../base/exit-codes.ts";
import { noneMeant } from "../client/names.ts";
import type { CommandSpec } from "../base/spec.ts";
import { stateText } from "../lists/words.ts";
import { firstFrame } from "../client/watch-frame.ts";

export const GOALS = ["ready", "drained", "lost"] as const;
export type Goal = (typeof GOALS)[number];

const POLL_MS = 500;
/** Between two lines about one that is in the same state. */
const SAY_EVERY_MS = 10_000;
/** How long the head may take for one answer: `--timeout` is for the whole. */
const ANSWER_MS = 5000;
const DEFAULT_TIMEOUT_MS = 600_000;

export const waitCommand: CommandSpec = {
  name: "wait",
  usage: "wait <worker|model>... --for ready|drained|lost [--timeout <duration>]",
  summary: "wait until workers or models are ready, drained or lost",
  details: [
    "A model is ready with one ready replica, drained when none is ready and none of its requests runs,",
    "lost without any that is ready or starting. What is not there yet is waited for with --for ready.",
    "Exit code 124: the time was over before.",
  ],
  argument: { name: "worker|model", required: true, repeats: true },
  options: [
    {
      flag: "for",
      value: "<state>",
      default: "ready",
      choices: GOALS,
      summary: "ready, drained or lost",
    },
    {
      flag: "timeout",
      value: "<duration>",
      defaultNote: "10m",
      summary: "how long to wait at most",
      isTyped: true,
    },
  ],
  examples: [
    "llmnode wait gpu-03 --for ready",
    "llmnode wait Qwen/Qwen3-8B --for ready --timeout 30m && ./evaluate.sh",
  ],
  async run(invocation, terminal) {
    const { options, words } = invocation;
    const goal = options.choice("for", GOALS);
    // The same word in a configuration file is about single answers of the head.
    const isTyped = options.from("timeout") === "flag";
    const limitMs = (isTyped ? options.durationMs("timeout") : null) ?? DEFAULT_TIMEOUT_MS;
    const client = { ...headClient(invocation), timeoutMs: ANSWER_MS };
    const say = (line: string) => terminal.err.write(`${cleanLine(line, 300)}\n`);
    await waitFor({ client, names: [...new Set(words)], goal, limitMs, say });
    return EXIT.ok;
  },
};

export interface WaitOptions {
  client: HeadClient;
  names: readonly string[];
  goal: Goal;
  limitMs: number;
  say: (line: string) => void;
  pollMs?: number;
}

/** What one of the names is now. */
interface Progress {
  isReached: boolean;
  /** In words; null: there is none of that name. */
  words: string | null;
}

interface Waiting {
  name: string;
  isReached: boolean;
  words: string | null;
  reportedState: string | null;
  reportedAt: number;
}

/** Throws `deadline_passed`, `not_found`, and what the head answers, once it did answer before. */
export async function waitFor(options: WaitOptions): Promise<void> {
  const { client, goal, limitMs, say, pollMs = POLL_MS } = options;
  const began = performance.now();
  const waiting = options.names.map((name): Waiting => ({
    name,
    isReached: false,
    words: null,
    reportedState: null,
    reportedAt: 0,
  }));
  let isFirst = true;
  let isAway = false;
  for (;;) {
    try {
      for (const one of waiting.filter(({ isReached }) => !isReached)) {
        check(one, await progressOf(client, one.name, goal), { goal, say });
        if (isFirst && one.words === null) await tellUnknown(client, one.name, { goal, say });
      }
      isAway = false;
      isFirst = false;
    } catch (error) {
      const isPassing = error instanceof LlmnodeError && isRetryable(error.code);
      if (!isPassing || isFirst) throw error;
      if (!isAway) say("(the head does not answer; waiting until it is back)");
      isAway = true;
    }
    const open = waiting.filter(({ isReached }) => !isReached);
    if (open.length === 0) return;
    const left = limitMs - (performance.now() - began);
    if (left <= 0) throw tooLate(open, goal, limitMs);
    await Bun.sleep(Math.min(pollMs, left));
  }
}

function check(
  one: Waiting,
  progress: Progress,
  { goal, say }: { goal: Goal; say: (line: string) => void },
): void {
  one.isReached = progress.isReached;
  one.words = progress.words;
  if (progress.isReached) {
    say(`${one.name}: ${goal}`);
    return;
  }
  const state = progress.words?.split(" ")[0] ?? null;
  const now = performance.now();
  if (state === null || (state === one.reportedState && now - one.reportedAt < SAY_EVERY_MS))
    return;
  one.reportedState = state;
  one.reportedAt = now;
  say(`${one.name}: ${progress.words}`);
}

/** A worker of that name, or else a model. */
async function progressOf(client: HeadClient, name: string, goal: Goal): Promise<Progress> {
  const query = { limit: 1, gone: true, detail: name };
  const { detail } = (await firstFrame(client, { view: "workers", ...query })).frame;
  if (detail !== null && "worker" in detail) return ofWorker(detail.worker, goal);
  const other = (await firstFrame(client, { view: "models", ...query })).frame.detail;
  if (other !== null && "model" in other) return ofModel(other.model, goal);
  return { isReached: false, words: null };
}

export function ofWorker(row: WorkerRow, goal: Goal): Progress {
  const reached: Record<Goal, readonly string[]> = {
    ready: ["ready"],
    drained: ["drained"],
    lost: ["lost", "left"],
  };
  return { isReached: reached[goal].includes(row.state), words: stateText(row) };
}

export function ofModel(row: ModelRow, goal: Goal): Progress {
  const isQuiet = row.ready === 0 && row.in_flight === 0;
  const isReached = {
    ready: row.ready > 0,
    drained: isQuiet,
    lost: row.ready === 0 && row.starting === 0,
  }[goal];
  return { isReached, words: `${row.state}, ${row.ready} of ${row.replicas} replicas ready` };
}

/** What is not there may come; but it cannot end. */
async function tellUnknown(
  client: HeadClient,
  name: string,
  { goal, say }: { goal: Goal; say: (line: string) => void },
): Promise<void> {
  const workers = (await firstFrame(client, { view: "workers" })).frame.rows as WorkerRow[];
  const models = (await firstFrame(client, { view: "models" })).frame.rows as ModelRow[];
  const names = [...workers, ...models].map((row) => row.name);
  const unknown = noneMeant(name, "worker or model", names);
  if (goal !== "ready") throw unknown;
  const meant = unknown.hints.find((hint) => hint.startsWith("did you mean"));
  say(`${name}: not here (yet)${meant === undefined ? "" : `; ${meant.replace(/ +/g, " ")}?`}`);
}

function tooLate(open: readonly Waiting[], goal: Goal, limitMs: number): LlmnodeError {
  const [first] = open;
  const now = first?.words ?? "not here";
  const names = open.map(({ name }) => name).join(", ");
  const are = open.length === 1 ? `is not ${goal}` : `are not ${goal}`;
  const also = open.length === 1 ? ` (it is ${now})` : "";
  const message = `${names} ${are} after ${formatDuration(limitMs)}${also}`;
  return new LlmnodeError("deadline_passed", cleanLine(message, 500));
}
