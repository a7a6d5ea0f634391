/** Whether the key of a request is for the model that it asks for. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Caller } from "../../protocol/caller.ts";

/** The words for a model that is not there are those for one that is hidden from who asks. */
export function noSuchModel(model: string): LlmnodeError {
  const name = JSON.stringify(model.slice(0, 200));
  return new LlmnodeError("model_not_found", `The model ${name} does not exist.`);
}

/**
 * Throws `model_not_found` for a model that the key is not for; `bad_request` for a request that any
 * engine might answer, by a key that is not for all of their models.
 */
export function requireAllowed({ key }: Caller, model: string | null): void {
  if (key === null || key.models === null) return;
  if (model === null) {
    const message = "This API key is limited to certain models: name one in 'model'.";
    throw new LlmnodeError("bad_request", message, { param: "model" });
  }
  if (!key.allows(model)) throw noSuchModel(model);
}
