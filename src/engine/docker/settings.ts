/** Every interval and limit of engines in containers, with its default. */

export const CONTAINER_DEFAULTS = {
  /** Between two looks for what is about to happen: an id that is written, a removal. */
  pollMs: 200,
  /** Longest wait for an answer of the container tool. */
  callTimeoutMs: 15_000,
  /** How long what is known of a running container may be used before it is looked at again. */
  infoMaxAgeMs: 10_000,
  /** How long a container that was created may take to run, before a stop takes it as it is. */
  createdMaxMs: 5_000,
  /** How long the removal of a container may take. */
  removeTimeoutMs: 10_000,
  /** How long a tool that was told to stop may take, before it is killed. */
  toolStopMs: 3_000,
};

export type ContainerSettings = typeof CONTAINER_DEFAULTS;
