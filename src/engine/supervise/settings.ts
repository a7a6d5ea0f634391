/** Every interval and limit of the supervisor, with its default. */

import type { ContainerSettings } from "../docker/containers.ts";
import type { LoadSettings } from "../ask/load.ts";

export const SUPERVISOR_DEFAULTS = {
  /** Of reading the engine's load, where they differ from the defaults of load.ts. */
  load: {} as Partial<LoadSettings>,
  /** How long a start may go without any progress before it counts as failed; 0: for ever. */
  startTimeoutMs: 30 * 60_000,
  /** Between two checks of the progress of a start. */
  startCheckMs: 5_000,
  /** Between two probes while the engine starts. */
  startProbeMs: 500,
  /** Between two health probes once it was ready. */
  healthProbeMs: 5_000,
  /** Between two readings of the model list once it was ready. */
  modelsMs: 10_000,
  /** Longest wait for one answer to a probe; null: by kind (SGLang's `/health` may take 20 s). */
  probeTimeoutMs: null as number | null,
  connectTimeoutMs: 1_000,
  /** Probes that must fail in a row before a ready engine counts as unhealthy. */
  failuresUntilUnhealthy: 3,
  /** Between two scans for processes that the engine started, so that none is forgotten later. */
  treeMs: 10_000,
  /** How long a failed probe of a ready engine does not count after its tokens were seen to flow. */
  flowGraceMs: 10_000,
  /** Largest answer to a probe that is read. */
  answerMaxBytes: 4 * 1024 * 1024,
  /** Wait before the first restart; doubles with each crash. */
  backoffFirstMs: 1_000,
  backoffMaxMs: 60_000,
  /** A run that was ready for this long resets the backoff. */
  backoffResetMs: 600_000,
  /** Starts in a row that end the same way each time before it counts as failed. */
  failuresUntilFailed: 5,
  /** From SIGTERM to the leader until it gets one SIGINT; null: by kind. */
  stopTimeoutMs: null as number | null,
  /** From that SIGINT until the rest of its group is signalled too. */
  interruptTimeoutMs: 5_000,
  /** From SIGTERM to the group until SIGKILL. */
  groupStopTimeoutMs: 5_000,
  /** How long the processes of a killed engine, its port and its memory on GPUs may take to be gone
   * before it counts as failed. */
  killTimeoutMs: 60_000,
  /** Between two checks whether they are. */
  releasePollMs: 500,
  /** Between two polls of an adopted engine's process: it is no child of ours. */
  adoptedPollMs: 150,
  /** How long a start waits for the first answer of an engine that was ready when it was left. */
  adoptedAnswerMs: 2_000,
  /** Between two readings of the engine's log; four times as long once it has been silent. */
  logPollMs: 150,
  /** Most bytes of the log that one reading passes on; older ones are skipped and counted. */
  logTickBytes: 1024 * 1024,
  /** Size at which the log is cut back to `logKeepBytes`; more than twice as much as that. */
  logMaxBytes: 50 * 1024 * 1024,
  logKeepBytes: 10 * 1024 * 1024,
  /** Longest log line; the rest of a longer one is dropped. */
  lineMaxBytes: 16 * 1024,
  /** Of engines in containers, where they differ from their defaults. */
  container: {} as Partial<ContainerSettings>,
};

export type SupervisorSettings = typeof SUPERVISOR_DEFAULTS;
