/** What the proxy needs of what decides how much a caller may ask. */

import type { LlmnodeError } from "../../protocol/errors.ts";
import type { Caller } from "../../protocol/caller.ts";
import type { PromptFacts } from "../../protocol/replica-request.ts";
import type { Payload } from "../request/payload.ts";
import type { RequestRecord } from "./record.ts";

/** What a request is, before it is known what it costs. */
export interface AdmissionFacts {
  operation: string;
  /** Of its body. */
  bytes: number;
  /** Null: it has no prompt that would be read. It is looked for when it is called only. */
  prompt(): PromptFacts | null;
}

/** One request's claim on what its caller may use. */
export interface Admission {
  /** Why it may not go on; null: it may. */
  refusal: LlmnodeError | null;
  /** What its caller is told of its limits, on whatever answer it gets. */
  headers: Readonly<Record<string, string>>;
  /** The request is over, whatever its end; also called after a refusal. */
  end(record: RequestRecord): void;
}

/** Takes what the request needs at once, or nothing. Never throws. */
export type Admit = (caller: Caller, facts: AdmissionFacts) => Admission;

/** Where there are no limits. */
export const NO_ADMISSION: Admission = { refusal: null, headers: {}, end() {} };

export function factsOf(
  context: { route: { operation: string }; payload: Payload },
  { prefixMatters }: { prefixMatters: (model: string) => boolean },
): AdmissionFacts {
  const { model, prompt, length } = context.payload;
  return {
    operation: context.route.operation,
    bytes: length,
    // As it will be read for the router: once.
    prompt: () => prompt.read(model !== null && prefixMatters(model)),
  };
}
