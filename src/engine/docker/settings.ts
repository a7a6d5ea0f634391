/** Every interval and limit of engines in containers, with its default. */

export interface ContainerSettings {
  /** Between two looks for what is about to happen: an id that is written, a removal. */
  pollMs: number;
  /** Longest wait for an answer of the container tool. */
  callTimeoutMs: number;
  /** How long what is known of a running container may be used before it is looked at again. */
  infoMaxAgeMs: number;
  /** How long a container that was created may take to run, before a stop takes it as it is. */
  createdMaxMs: number;
  /** How long the removal of a container may take. */
  removeTimeoutMs: number;
  /** How long a tool that was told to stop may take, before it is killed. */
  toolStopMs: number;
}

export const CONTAINER_DEFAULTS: ContainerSettings = {
  pollMs: 200,
  callTimeoutMs: 15_000,
  infoMaxAgeMs: 10_000,
  createdMaxMs: 5_000,
  removeTimeoutMs: 10_000,
  toolStopMs: 3_000,
};
