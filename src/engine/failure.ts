/** Why an engine ended, as data: the closed set of failure classes and what is told about one. */

/** What a class means, and whether trying again is of no use; its advice is in `diagnose/hints.ts`. */
export const CLASSES = {
  gpu_oom: { words: "the model does not fit into GPU memory", deterministic: false },
  gpu_busy: { words: "other processes use the GPU memory it needs", deterministic: false },
  kv_too_small: {
    words: "too little GPU memory is left for the context length",
    deterministic: true,
  },
  graph_oom: { words: "GPU memory ran out while CUDA graphs were captured", deterministic: false },
  gated: { words: "access to the model is refused", deterministic: true },
  no_model: { words: "there is no such model", deterministic: true },
  bad_weights: { words: "the model's files are damaged or incomplete", deterministic: true },
  offline: { words: "the model hub cannot be reached", deterministic: false },
  arch_unsupported: {
    words: "this version of the engine does not know this kind of model",
    deterministic: true,
  },
  port_in_use: { words: "its port is taken", deterministic: false },
  no_gpu: { words: "no usable GPU found", deterministic: false },
  gpu_fault: { words: "the GPU failed", deterministic: false },
  shm: {
    words: "its processes cannot share memory (NCCL or /dev/shm)",
    deterministic: false,
  },
  disk_full: { words: "the disk is full", deterministic: false },
  bad_flag: { words: "its command line was rejected", deterministic: true },
  missing_program: { words: "a program or library is missing", deterministic: true },
  docker: { words: "the container cannot be started", deterministic: false },
  host_oom: { words: "memory ran out (not the GPU's)", deterministic: false },
  engine_died: { words: "an engine process died", deterministic: false },
  stalled: { words: "it stopped producing output", deterministic: false },
  start_timeout: { words: "no progress while starting", deterministic: false },
  crash: { words: "it crashed", deterministic: false },
};
export type FailureClass = keyof typeof CLASSES;

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
