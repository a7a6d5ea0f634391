/** The names under which workers offer HTTP servers that serve no models. */

const SERVICE_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** OpenTela's name for all models: its paths are those of models. */
export const ALL_MODELS = "llm";

/** Whether a worker may offer a service by this name, which is a part of paths as it stands. */
export function isServiceName(text: string): boolean {
  return SERVICE_NAME.test(text) && text !== ALL_MODELS;
}
