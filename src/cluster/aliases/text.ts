/** How an alias is written: one line with its name, its targets, their weights and presets. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import {
  type Alias,
  ALIAS_LIMITS,
  type AliasLimits,
  collide,
  type ModelTarget,
  type PresetKey,
} from "./aliases.ts";

/** What the head reads or sets in a body itself: a preset of it would be undone or mislead it. */
const RESERVED: ReadonlySet<string> = new Set([
  "model",
  "stream",
  "stream_options",
  "backend",
  "rid",
]);
const MAX_PATH = 8;

/**
 * Reads `<name>=<target>[:<weight>][,...]`, a target being `<model>[?<key>=<value>[&...]]`. Keys
 * are nested by dots; values are JSON, or else strings. Commas, `?`, `&`, `.` and a `:<number>` at
 * a target's end that belong to names or values are written with a percent sign. Throws
 * `bad_request`, in words for its author.
 */
export function parseAlias(spec: string, limits: AliasLimits = ALIAS_LIMITS): Alias {
  const mark = spec.indexOf("=");
  if (mark === -1) throw wrong("an alias is written <name>=<model>, such as fast=Qwen/Qwen3-8B");
  const name = checkName(spec.slice(0, mark), "an alias's name", limits);
  const text = spec.slice(mark + 1);
  if (text.length > limits.maxTextChars) {
    throw wrong(`the targets of ${name} are longer than ${limits.maxTextChars} characters`);
  }
  if (text === "") throw wrong(`${name} needs a model: ${name}=<model>`);
  const parts = text.split(",");
  if (parts.length > limits.maxTargets) {
    throw wrong(`${name} has ${parts.length} targets; at most ${limits.maxTargets}`);
  }
  const weighted = parts.map(weightOf);
  const bare = weighted.find(({ weight }) => weight === null);
  const some = weighted.find(({ weight }) => weight !== null);
  if (bare && some) {
    throw wrong(
      `every target has a weight or none: ${shown(some.target)} has one, ${shown(bare.target)} not (a name that ends like one is written with %3A for its colon)`,
    );
  }
  const sum = weighted.reduce((total, { weight }) => total + (weight ?? 0), 0);
  if (some && sum !== 100) throw wrong(`the weights of ${name} add up to ${sum}, not to 100`);
  const targets = weighted.map(({ target, weight }) => ({ ...targetOf(target, limits), weight }));
  return { name, text, targets };
}

function weightOf(part: string): { target: string; weight: number | null } {
  const found = /^(.*):(\d{1,3})$/.exec(part);
  if (!found) return { target: part, weight: null };
  const weight = Number(found[2]);
  if (weight >= 1 && weight <= 100) return { target: found[1] ?? "", weight };
  throw wrong(`a weight is 1 to 100, not ${weight} (${shown(part)})`);
}

function targetOf(text: string, limits: AliasLimits): ModelTarget {
  const mark = text.indexOf("?");
  const model = decoded(mark === -1 ? text : text.slice(0, mark));
  checkName(model, "a target's model", limits);
  if (mark === -1) return { model, preset: [] };
  const preset = text
    .slice(mark + 1)
    .split("&")
    .map(presetKeyOf);
  if (preset.length > limits.maxPresetKeys) {
    throw wrong(`${model} has ${preset.length} preset keys; there may be ${limits.maxPresetKeys}`);
  }
  for (const [i, key] of preset.entries()) {
    const other = preset.slice(0, i).find((earlier) => collide(earlier, key));
    if (other) throw wrong(`the preset keys ${dotted(other)} and ${dotted(key)} collide`);
  }
  return { model, preset };
}

function presetKeyOf(text: string): PresetKey {
  const mark = text.indexOf("=");
  const path = (mark === -1 ? text : text.slice(0, mark)).split(".").map(decoded);
  if (mark === -1 || path.includes("")) {
    throw wrong(`a preset is written ?<key>=<value>, not ${shown(`?${text}`)}`);
  }
  if (path.length > MAX_PATH) throw wrong(`${shown(text)} is nested deeper than ${MAX_PATH} keys`);
  const [top = ""] = path;
  if (RESERVED.has(top)) throw wrong(`a preset cannot set ${top}: the head does`);
  return { path, json: jsonOf(decoded(text.slice(mark + 1))) };
}

/** The text itself where it is JSON, so that numbers stay as they were written. */
function jsonOf(text: string): string {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}

function dotted({ path }: PresetKey): string {
  return shown(path.join("."));
}

function checkName(name: string, what: string, { maxNameChars }: AliasLimits): string {
  if (name === "") throw wrong(`${what} must not be empty`);
  if (cleanLine(name, maxNameChars) === name && name.trim() === name) return name;
  throw wrong(
    `${what} has at most ${maxNameChars} characters, all printable, and no spaces around it`,
  );
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong(`${shown(text)} has a % that is no escape: write %25 for a percent sign`);
  }
}

function shown(text: string): string {
  return cleanLine(text, 80);
}

function wrong(message: string): LlmnodeError {
  return new LlmnodeError("bad_request", message);
}
