/** Why an engine ended, as data: the closed set of failure classes and what is told about one. */

/** Each has its words in `diagnose/rules.ts` and its advice in `diagnose/hints.ts`. */
export const FAILURE_CLASSES = [
  "gpu_oom",
  "gpu_busy",
  "kv_too_small",
  "graph_oom",
  "gated",
  "no_model",
  "bad_weights",
  "offline",
  "arch_unsupported",
  "port_in_use",
  "no_gpu",
  "gpu_fault",
  "shm",
  "disk_full",
  "bad_flag",
  "missing_program",
  "docker",
  "host_oom",
  "engine_died",
  "start_timeout",
  "stalled",
  "crash",
] as const;
export type FailureClass = (typeof FAILURE_CLASSES)[number];

export interface Failure {
  failure: FailureClass;
  /** One plain line: what is wrong, then the engine's own words for it. */
  reason: string;
  /** What to do next, in the flags of this engine; empty if nothing is known to help. */
  hint: string;
  /** Whether the next start would end the same way unless somebody changes something. */
  deterministic: boolean;
  /** The lines of the log that tell it, oldest first: at most 8 and 2 KiB together, no secrets. */
  evidence: readonly string[];
}

/** What a status says about the last end of its engine, until it is ready again. */
export interface FailureFacts {
  failure: FailureClass | null;
  hint: string | null;
  evidence: readonly string[];
}

export const NO_FAILURE: FailureFacts = { failure: null, hint: null, evidence: [] };

/** For a status; the reason itself goes with the event. */
export function factsOf({ failure, hint, evidence }: Failure): FailureFacts {
  return { failure, hint: hint === "" ? null : hint, evidence };
}
