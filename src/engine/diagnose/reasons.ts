/** Explains in plain words why an engine ended, from its last lines and its exit. Pure. */

import { cleanLine } from "../../util/text.ts";
import { maskSecrets } from "../../util/mask.ts";
import { CLASSES, type Failure, type FailureClass } from "../failure.ts";
import { isVerdict, tellingLine } from "./log-lines.ts";
import { type ContainerEnd, describeExit, type EngineExit } from "../process/process.ts";
import { bareLine, collectEvidence } from "./evidence.ts";
import { findCause, type Cause } from "./rules.ts";
import { adviseOn } from "./hints.ts";
import type { EngineKind } from "../status.ts";

export interface EngineEnding {
  kind: EngineKind;
  /** What it printed last, oldest first; 200 lines are enough. */
  lines: readonly string[];
  /** Of the process, or of the container by its tool; null: it has not ended. */
  exit: EngineExit | null;
  /** Null: it did not run in one. */
  container: ContainerEnd | null;
}

const MAX_REASON = 300;
const MAX_LINES = 200;

// Exit codes of shells and containers: 128 and the number of the signal.
const SIGNALS: Readonly<Record<number, string>> = {
  132: "SIGILL",
  134: "SIGABRT",
  135: "SIGBUS",
  136: "SIGFPE",
  137: "SIGKILL",
  139: "SIGSEGV",
  143: "SIGTERM",
};
const SIGNAL_WORDS: Readonly<Record<string, string>> = {
  SIGILL: "illegal instruction",
  SIGABRT: "aborted",
  SIGFPE: "arithmetic fault",
  SIGSEGV: "segmentation fault",
};

/** What the exit alone tells; more, or less, than the lines do. */
interface ExitVerdict {
  failure: FailureClass;
  words?: string;
  hint?: string;
}

/** Null only if it has not ended and its lines tell of no known cause. */
export function explainFailure(ending: EngineEnding): Failure | null {
  const { kind, exit, container } = ending;
  const lines = ending.lines.slice(-MAX_LINES).map((line) => maskSecrets(cleanLine(line, 2_000)));
  const cause = findCause(lines);
  const verdict = exit && judgeExit(exit, container);
  const facts = { kind, lines, container };
  // What the kernel and docker know for certain beats every line of the engine.
  if (container?.oomKilled === true) {
    const words = "the container used more memory than it may (OOM-killed)";
    return explain({ failure: "host_oom", words }, null, facts);
  }
  if (cause && (cause.rule.rank < 2 || verdict === null || verdict.failure === "crash")) {
    return explain(cause.rule, cause, facts);
  }
  if (verdict && verdict.failure !== "crash") return explain(verdict, null, facts);
  return exit && explainCrash(exit, verdict, facts);
}

/** Of an engine that runs and does nothing: `why` that is known. */
export function describeStall(
  failure: "stalled" | "start_timeout",
  why: string,
  { kind, lines }: Pick<EngineEnding, "kind" | "lines">,
): Failure {
  const masked = lines.slice(-MAX_LINES).map((line) => maskSecrets(cleanLine(line, 2_000)));
  return {
    failure,
    reason: cleanLine(`${CLASSES[failure].words}: ${why}`, MAX_REASON),
    hint: adviseOn(failure, { kind, lines: masked, line: "", container: null }),
    deterministic: CLASSES[failure].deterministic,
    evidence: collectEvidence(masked, null),
  };
}

interface EndFacts extends Pick<EngineEnding, "kind" | "container"> {
  lines: readonly string[];
}

function explain(
  rule: ExitVerdict & { deterministic?: boolean },
  cause: Cause | null,
  { kind, lines, container }: EndFacts,
): Failure {
  const { failure } = rule;
  const words = rule.words ?? CLASSES[failure].words;
  const line = cause === null ? tellingLine(lines) : (lines[cause.detail] ?? null);
  const reason = line === null ? words : `${words}: ${bareLine(line)}`;
  return {
    failure,
    reason: cleanLine(reason, MAX_REASON),
    hint: rule.hint ?? adviseOn(failure, { kind, lines, line: line ?? "", container }),
    deterministic: rule.deterministic ?? CLASSES[failure].deterministic,
    evidence: collectEvidence(lines, cause?.detail ?? null),
  };
}

function explainCrash(
  exit: EngineExit,
  verdict: ExitVerdict | null,
  { kind, lines }: EndFacts,
): Failure {
  const line = tellingLine(lines);
  const words = verdict?.words ?? describeExit(exit);
  const reason = line === null ? words : `${words}: ${bareLine(line)}`;
  // Its own words explain it better than a guess by the signal; SGLang kills itself when it fails.
  const isExplained = kind === "sglang" || (line !== null && isVerdict(line));
  return {
    failure: "crash",
    reason: cleanLine(reason, MAX_REASON),
    hint: isExplained ? "" : (verdict?.hint ?? ""),
    deterministic: false,
    evidence: collectEvidence(lines, null),
  };
}

/** Sources: signal(7), bash(1) "EXIT STATUS", docker's `run` reference "Exit status". */
function judgeExit(exit: EngineExit, container: ContainerEnd | null): ExitVerdict | null {
  const { code } = exit;
  if (code === 125 && container) {
    return {
      failure: "docker",
      words: `${container.tool} did not start the container`,
      hint: `run the same ${container.tool} command by hand to see why`,
    };
  }
  if (code === 126) {
    return {
      failure: "missing_program",
      words: `its program cannot be executed${inside(container)}`,
    };
  }
  if (code === 127) {
    return { failure: "missing_program", words: `its program was not found${inside(container)}` };
  }
  const signal = exit.signal ?? (code === null ? undefined : SIGNALS[code]);
  switch (signal) {
    case undefined:
      return null;
    case "SIGBUS":
      return { failure: "shm" };
    case "SIGKILL": {
      const memory =
        container === null
          ? "if no one killed it, memory ran out: dmesg | grep -i 'out of memory'"
          : container.oomKilled === null
            ? `out of memory, or ${container.tool} kill; without --rm the container could tell which`
            : `not for want of memory: somebody ran ${container.tool} kill?`;
      return { failure: "crash", words: "killed by SIGKILL", hint: memory };
    }
    case "SIGTERM":
      return {
        failure: "crash",
        words: "ended by SIGTERM from outside",
        hint: container ? `somebody ran ${container.tool} stop?` : "",
      };
    default: {
      const plain = SIGNAL_WORDS[signal];
      const words = `killed by ${signal}${plain === undefined ? "" : ` (${plain})`}`;
      const hint =
        signal === "SIGILL" ? "take a build of the engine for this machine's processor" : "";
      return { failure: "crash", words, hint };
    }
  }
}

function inside(container: ContainerEnd | null): string {
  return container ? " in the container" : "";
}
