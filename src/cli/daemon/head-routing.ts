/** How a person says which replica a request goes to: `--routing` and `--routing-tuning`. */

import { usage } from "../base/messages.ts";
import {
  POLICIES,
  type Policy,
  ROUTE_SETTINGS,
  type RouteSettings,
} from "../../cluster/routing/policies.ts";
import type { ScoreTuning } from "../../cluster/routing/score.ts";
import { cleanLine } from "../../util/text.ts";
import type { Options, SourcedText } from "../base/options.ts";
import { suggest } from "../base/suggest.ts";

/** Models that may have a policy of their own. */
const MAX_RULES = 256;
const TUNING_RANGES: Record<keyof ScoreTuning, { min: number; max: number }> = {
  g: { min: 0, max: 10 },
  k: { min: 0, max: 1000 },
};

/** Throws `usage`, in one line, for policies, keys and figures that are none. */
export function readRouting(options: Options): RouteSettings {
  const settings = { ...ROUTE_SETTINGS, tuning: readTuning(options) };
  const rules: { pattern: string; policy: Policy }[] = [];
  for (const given of options.each("routing")) {
    // Names of models have no `=` in them.
    const at = given.text.lastIndexOf("=");
    const policy = policyOf(given, given.text.slice(at + 1));
    if (at === -1) settings.policy = policy;
    else if (at > 0) rules.push({ pattern: given.text.slice(0, at), policy });
    else throw usage(`${given.source} needs a model before "=": <model>=${policy}`);
  }
  if (rules.length > MAX_RULES) throw usage(`--routing: more than ${MAX_RULES} models`);
  return { ...settings, rules };
}

function policyOf({ source }: SourcedText, text: string): Policy {
  const found = POLICIES.find((policy) => policy === text);
  if (found !== undefined) return found;
  const meant = suggest(text, POLICIES);
  const hint = meant === null ? `; policies: ${POLICIES.join(", ")}` : `, did you mean "${meant}"?`;
  throw usage(`${source}: unknown policy "${cleanLine(text, 80)}"${hint}`);
}

function readTuning(options: Options): ScoreTuning {
  const tuning = { ...ROUTE_SETTINGS.tuning };
  const text = options.text("routing-tuning");
  if (text === null) return tuning;
  for (const part of text.split(",")) {
    const [key = "", value = "", ...more] = part.split("=");
    if ((key !== "g" && key !== "k") || more.length > 0) {
      throw options.invalid("routing-tuning", "g=<seconds> and k=<number>, such as g=0.1,k=8");
    }
    const { min, max } = TUNING_RANGES[key];
    const read = /^\d{1,4}(\.\d{1,6})?$/.test(value) ? Number(value) : Number.NaN;
    if (!(read >= min && read <= max)) {
      throw options.invalid("routing-tuning", `a ${key} from ${min} to ${max}`);
    }
    tuning[key] = read;
  }
  return tuning;
}
