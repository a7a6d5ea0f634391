/** Every interval and limit of the supervisor, with its default. */

import type { ContainerSettings } from "../docker/settings.ts";
import type { LoadSettings } from "../ask/load.ts";

export interface SupervisorSettings {
  /** Of reading the engine's load, where they differ from the defaults of load.ts. */
  load: Partial<LoadSettings>;
  /** How long a start may go without any progress before it counts as failed; 0: for ever. */
  startTimeoutMs: number;
  /** Between two checks of the progress of a start. */
  startCheckMs: number;
  /** Between two probes while the engine starts. */
  startProbeMs: number;
  /** Between two health probes once it was ready. */
  healthProbeMs: number;
  /** Between two readings of the model list once it was ready. */
  modelsMs: number;
  /** Longest wait for one answer to a probe; null: by kind (SGLang's `/health` may take 20 s). */
  probeTimeoutMs: number | null;
  /** Longest wait for a TCP connection. */
  connectTimeoutMs: number;
  /** Probes that must fail in a row before a ready engine counts as unhealthy. */
  failuresUntilUnhealthy: number;
  /** Between two scans for processes that the engine started, so that none is forgotten later. */
  treeMs: number;
  /** How long a failed probe of a ready engine does not count after its tokens were seen to flow. */
  flowGraceMs: number;
  /** Largest answer to a probe that is read. */
  answerMaxBytes: number;
  /** Wait before the first restart; doubles with each crash. */
  backoffFirstMs: number;
  backoffMaxMs: number;
  /** A run that was ready for this long resets the backoff. */
  backoffResetMs: number;
  /** Starts in a row that end the same way each time before it counts as failed. */
  failuresUntilFailed: number;
  /** From SIGTERM to the leader until it gets one SIGINT; null: by kind. */
  stopTimeoutMs: number | null;
  /** From that SIGINT until the rest of its group is signalled too. */
  interruptTimeoutMs: number;
  /** From SIGTERM to the group until SIGKILL. */
  groupStopTimeoutMs: number;
  /** How long the processes of a killed engine, its port and its memory on GPUs may take to be gone
   * before it counts as failed. */
  killTimeoutMs: number;
  /** Between two checks whether they are. */
  releasePollMs: number;
  /** Between two polls of an adopted engine's process: it is no child of ours. */
  adoptedPollMs: number;
  /** How long a start waits for the first answer of an engine that was ready when it was left. */
  adoptedAnswerMs: number;
  /** Between two readings of the engine's log. */
  logPollMs: number;
  /** Most bytes of the log that one reading passes on; older ones are skipped and counted. */
  logTickBytes: number;
  /** Size at which the log is cut back to `logKeepBytes`; more than twice as much as that. */
  logMaxBytes: number;
  logKeepBytes: number;
  /** Longest log line; the rest of a longer one is dropped. */
  lineMaxBytes: number;
  /** Of engines in containers, where they differ from their defaults. */
  container: Partial<ContainerSettings>;
}

export const SUPERVISOR_DEFAULTS: SupervisorSettings = {
  load: {},
  startTimeoutMs: 30 * 60_000,
  startCheckMs: 5_000,
  startProbeMs: 500,
  healthProbeMs: 5_000,
  modelsMs: 10_000,
  probeTimeoutMs: null,
  connectTimeoutMs: 1_000,
  failuresUntilUnhealthy: 3,
  treeMs: 10_000,
  flowGraceMs: 10_000,
  answerMaxBytes: 4 * 1024 * 1024,
  backoffFirstMs: 1_000,
  backoffMaxMs: 60_000,
  backoffResetMs: 600_000,
  failuresUntilFailed: 5,
  stopTimeoutMs: null,
  interruptTimeoutMs: 5_000,
  groupStopTimeoutMs: 5_000,
  killTimeoutMs: 60_000,
  releasePollMs: 500,
  adoptedPollMs: 150,
  adoptedAnswerMs: 2_000,
  logPollMs: 150,
  logTickBytes: 1024 * 1024,
  logMaxBytes: 50 * 1024 * 1024,
  logKeepBytes: 10 * 1024 * 1024,
  lineMaxBytes: 16 * 1024,
  container: {},
};
