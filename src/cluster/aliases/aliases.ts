/** Names that stand for models: which of them may be set, and which models a request gets. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";

/** A member that a target's requests get where the client says nothing of it. */
export interface PresetKey {
  /** From the body's top level inwards. */
  path: readonly string[];
  /** Its value as JSON, the way it was written. */
  json: string;
}

/** A model, and what its requests get. */
export interface ModelTarget {
  model: string;
  preset: readonly PresetKey[];
}

export interface AliasTarget extends ModelTarget {
  /** In percent; null: targets without weights are tried in their order. */
  weight: number | null;
}

export interface Alias {
  name: string;
  /** Its targets as they were written. */
  text: string;
  targets: readonly AliasTarget[];
}

export type AliasTable = ReadonlyMap<string, Alias>;

export const ALIAS_LIMITS = {
  maxAliases: 1000,
  /** Of one alias. */
  maxTargets: 16,
  /** Of one target. */
  maxPresetKeys: 16,
  /** How many aliases may stand one behind the other. */
  maxDepth: 8,
  /** Models that one alias may lead to in the end. */
  maxModels: 64,
  /** Of a name, an alias's or a model's. */
  maxNameChars: 200,
  /** Of all that is written behind the `=`. */
  maxTextChars: 4096,
};
export type AliasLimits = typeof ALIAS_LIMITS;

/** The table with one more alias, or with another one of its name. Throws `refused`. */
export function withAlias(
  table: AliasTable,
  alias: Alias,
  limits: AliasLimits = ALIAS_LIMITS,
): Map<string, Alias> {
  const next = new Map(table).set(alias.name, alias);
  if (next.size > limits.maxAliases) {
    throw refused(`there are ${limits.maxAliases} aliases already, the most allowed`);
  }
  const loop = loopFrom(next, alias);
  if (loop) throw refused(`${alias.name} would point to itself: ${loop.map(shown).join(" -> ")}`);
  const sizes = new Map<string, Size>();
  for (const name of next.keys()) {
    const { depth, models } = sizeOf(next, name, sizes);
    if (depth > limits.maxDepth) {
      throw refused(
        `${shown(name)} would lead through ${depth} aliases; there may be ${limits.maxDepth}`,
      );
    }
    if (models > limits.maxModels) {
      throw refused(
        `${shown(name)} would lead to ${models} models; there may be ${limits.maxModels}`,
      );
    }
  }
  return next;
}

/** The way from an alias back to itself. A loop can be new only where it leads through that one. */
function loopFrom(table: AliasTable, from: Alias): string[] | null {
  const seen = new Set<string>();
  const open: { alias: Alias; path: string[] }[] = [{ alias: from, path: [from.name] }];
  for (let at = open.pop(); at; at = open.pop()) {
    for (const { model } of at.alias.targets) {
      const path = [...at.path, model];
      if (model === from.name) return path;
      const next = table.get(model);
      if (!next || seen.has(model)) continue;
      seen.add(model);
      open.push({ alias: next, path });
    }
  }
  return null;
}

interface Size {
  depth: number;
  models: number;
}

/** Of a table without loops; as deep as its longest chain. */
function sizeOf(table: AliasTable, name: string, known: Map<string, Size>): Size {
  const before = known.get(name);
  if (before) return before;
  const alias = table.get(name);
  if (!alias) return { depth: 0, models: 1 };
  const inner = alias.targets.map(({ model }) => sizeOf(table, model, known));
  const size = {
    depth: 1 + Math.max(...inner.map(({ depth }) => depth)),
    models: inner.reduce((sum, { models }) => sum + models, 0),
  };
  known.set(name, size);
  return size;
}

const LATEST = ":latest";

/** The alias by the name that a client uses; Ollama's clients put `:latest` behind any name. */
export function findAlias(table: AliasTable, name: string): Alias | null {
  const bare = name.endsWith(LATEST) ? name.slice(0, -LATEST.length) : name;
  return table.get(name) ?? table.get(bare) ?? null;
}

/**
 * The models that an alias leads to, each once, in the order in which they will do: by weight one
 * is picked, and the others stand behind it, the heaviest first. Without `random` (at least 0 and
 * below 1) the heaviest is picked. An alias's own preset goes before those of the aliases that it
 * leads to.
 */
export function resolveAlias(
  table: AliasTable,
  alias: Alias,
  random: (() => number) | null,
): ModelTarget[] {
  const found = new Map<string, ModelTarget>();
  const follow = (at: Alias, outer: readonly PresetKey[], depth: number): void => {
    for (const { model, preset } of order(at.targets, random)) {
      const inner = preset.filter((key) => !outer.some((earlier) => collide(earlier, key)));
      const all = inner.length === 0 ? outer : [...outer, ...inner];
      const next = table.get(model);
      // What stands in the table has been checked; the bounds are for tables made by hand.
      if (next && depth < ALIAS_LIMITS.maxDepth) follow(next, all, depth + 1);
      else if (!found.has(model) && found.size < ALIAS_LIMITS.maxModels) {
        found.set(model, { model, preset: all });
      }
    }
  };
  follow(alias, [], 1);
  return [...found.values()];
}

/** Whether one says something about what the other sets. */
export function collide(a: PresetKey, b: PresetKey): boolean {
  const length = Math.min(a.path.length, b.path.length);
  return a.path.slice(0, length).every((part, i) => part === b.path[i]);
}

function order(
  targets: readonly AliasTarget[],
  random: (() => number) | null,
): readonly AliasTarget[] {
  if (targets.length === 1 || targets[0]?.weight === null) return targets;
  const byWeight = targets.toSorted((a, b) => (b.weight ?? 0) - (a.weight ?? 0));
  let left = random === null ? 0 : random() * 100;
  for (const picked of byWeight) {
    left -= picked.weight ?? 0;
    if (left < 0) return [picked, ...byWeight.filter((target) => target !== picked)];
  }
  return byWeight;
}

function shown(name: string): string {
  return cleanLine(name, 80);
}

function refused(message: string): LlmnodeError {
  return new LlmnodeError("refused", message);
}
