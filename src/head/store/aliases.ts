/** Keeps the aliases that operators set: in the store, and at hand for requests and lists. */

import type { Catalog } from "../../cluster/state/state.ts";
import { parseAlias } from "../../cluster/aliases/text.ts";
import {
  type Alias,
  ALIAS_LIMITS,
  type AliasLimits,
  findAlias,
  type ModelTarget,
  resolveAlias,
  withAlias,
} from "../../cluster/aliases/aliases.ts";
import { findReplicas } from "../../cluster/state/catalog.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { cleanLine } from "../../util/text.ts";
import type { Store } from "./store.ts";
import { fieldsIn } from "../../util/json.ts";

export interface AliasesOptions {
  store: Store;
  catalog: () => Catalog;
  /** Whether a model was there not long ago. */
  isKnown: (model: string) => boolean;
  /** At least 0 and below 1. */
  random: () => number;
  log: Log;
  limits?: Partial<AliasLimits>;
}

export interface AliasInfo {
  alias: Alias;
  /** Milliseconds since 1970. */
  setAt: number;
  /** Whether there is or was a model of that name, which no client gets by it. */
  hidesModel: boolean;
  /** The models that it leads to, the heaviest and first one first. */
  models: readonly string[];
}

/** What lists of models need of them. */
export interface ListedAliases {
  names(): Iterable<string>;
  /** The models that an alias leads to, always in the same order; null where it is none. */
  modelsOf(name: string): readonly string[] | null;
}

export interface HeadAliases extends ListedAliases, Disposable {
  /** By name. */
  list(): AliasInfo[];
  /** `spec` is what `parseAlias` reads. Throws `bad_request`, `refused`; durable once it settles. */
  set(spec: string, how: { force: boolean }): Promise<{ info: AliasInfo; warnings: string[] }>;
  /** Throws `not_found`. */
  remove(name: string): Promise<{ warnings: string[] }>;
  /** The models that will do for a request, picked by weight; null where `name` is no alias. */
  resolve(name: string): readonly ModelTarget[] | null;
}

const PREFIX = "aliases/";

export function createAliases(options: AliasesOptions): HeadAliases {
  const { store, log } = options;
  const limits = { ...ALIAS_LIMITS, ...options.limits };
  const kept = new Map<string, { alias: Alias; setAt: number }>();
  /** Kept apart, since that is what requests look into. */
  const table = new Map<string, Alias>();
  /** Aliases whose hidden model is in the log already. */
  const warned = new Set<string>();

  const take = (key: string, value: unknown): void => {
    const name = key.slice(PREFIX.length);
    warned.delete(name);
    kept.delete(name);
    table.delete(name);
    if (value === undefined) return;
    try {
      const { text, setAt } = storedOf(value);
      const alias = parseAlias(`${name}=${text}`, limits);
      kept.set(name, { alias, setAt });
      table.set(name, alias);
    } catch (error) {
      const reason = messageOf(error);
      log.warn("an alias in the store cannot be read; it is ignored", { alias: name, reason });
    }
  };
  for (const { key, value } of store.list(PREFIX)) take(key, value);
  const unwatch = store.watch(PREFIX, ({ key, value }) => take(key, value));

  const isHere = (model: string) => findReplicas(options.catalog(), model).length > 0;
  const infoOf = ({ alias, setAt }: { alias: Alias; setAt: number }): AliasInfo => ({
    alias,
    setAt,
    hidesModel: isHere(alias.name) || options.isKnown(alias.name),
    models: modelsIn(table, alias) ?? [],
  });

  return {
    list: () =>
      [...kept.values()].sort((a, b) => (a.alias.name < b.alias.name ? -1 : 1)).map(infoOf),
    async set(spec, { force }) {
      const alias = parseAlias(spec, limits);
      withAlias(table, alias, limits);
      const { name, text } = alias;
      const hides = isHere(name) || options.isKnown(name);
      if (hides && !force) throw hidesModel(name);
      const setAt = Date.now();
      await store.put(`${PREFIX}${name}`, { text, set_at: setAt }, { durable: true });
      // Setting it by force needs no further warning.
      if (hides) warned.add(name);
      const info = infoOf({ alias, setAt });
      log.info("alias set", { alias: name, targets: cleanLine(text, 200) });
      const absent = info.models.filter((model) => !isHere(model));
      return { info, warnings: absent.map(absentWarning) };
    },
    async remove(name) {
      if (!store.get(`${PREFIX}${name}`)) throw noSuchAlias(name);
      await store.delete(`${PREFIX}${name}`, { durable: true });
      log.info("alias removed", { alias: name });
      const warnings = leadersTo(table, name).map(
        (other) => `${other} still points to ${name}, which is now read as a model`,
      );
      return { warnings };
    },
    resolve(name) {
      const alias = findAlias(table, name);
      if (alias === null) return null;
      if (!warned.has(alias.name) && isHere(alias.name)) {
        warned.add(alias.name);
        log.warn("an alias hides a model of the same name", { alias: alias.name });
      }
      return resolveAlias(table, alias, options.random);
    },
    names: () => table.keys(),
    modelsOf: (name) => modelsIn(table, findAlias(table, name)),
    [Symbol.dispose]: unwatch,
  };
}

function noSuchAlias(name: string): LlmnodeError {
  return new LlmnodeError("not_found", `there is no alias ${cleanLine(name, 80)}`);
}

/** The models that an alias leads to; null for none. */
function modelsIn(table: ReadonlyMap<string, Alias>, alias: Alias | null): string[] | null {
  return alias && resolveAlias(table, alias, null).map(({ model }) => model);
}

function hidesModel(name: string): LlmnodeError {
  const message =
    `${cleanLine(name, 80)} is a model: no client could ask for it while an alias has its name ` +
    "(--force sets it all the same)";
  return new LlmnodeError("refused", message);
}

function absentWarning(model: string): string {
  return `no worker has the model ${cleanLine(model, 200)} now`;
}

/** The aliases that have a name among their targets. */
function leadersTo(table: ReadonlyMap<string, Alias>, name: string): string[] {
  return [...table.values()]
    .filter(({ targets }) => targets.some(({ model }) => model === name))
    .map((alias) => cleanLine(alias.name, 200));
}

/** Throws where it is nothing that `set` has written. */
function storedOf(value: unknown): { text: string; setAt: number } {
  const { text, set_at } = fieldsIn(value);
  if (typeof text === "string") return { text, setAt: typeof set_at === "number" ? set_at : 0 };
  throw new Error("it has no text");
}
