/** Operators' requests about aliases. */

import { bad, type Body, flag } from "../http/body.ts";
import type { AliasInfo, HeadAliases } from "../store/aliases.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

export function aliasRoutes(aliases: HeadAliases): AdminRoute[] {
  const set: AdminHandler = async (body) => {
    const force = flag(body, "force");
    const { info, warnings } = await aliases.set(written(body, "alias"), { force });
    return { alias: aliasJson(info), warnings };
  };
  const remove: AdminHandler = async (body) => await aliases.remove(written(body, "name"));
  const list = async () => ({ aliases: aliases.list().map(aliasJson) });
  return [
    ["GET", "/api/v1/aliases", "viewer", list],
    ["POST", "/api/v1/aliases", "operator", set],
    ["POST", "/api/v1/aliases/remove", "operator", remove],
  ];
}

/** Its form is checked where the alias is parsed. */
function written(body: Body, key: string): string {
  const value = body[key];
  if (typeof value === "string") return value;
  throw bad(key, `${key} must be a text.`);
}

function aliasJson({ alias, setAt, hidesModel, models }: AliasInfo): Record<string, unknown> {
  return {
    name: alias.name,
    text: alias.text,
    targets: alias.targets.map(({ model, weight, preset }) => ({
      model,
      weight_percent: weight,
      preset: Object.fromEntries(
        preset.map(({ path, json }): [string, unknown] => [path.join("."), JSON.parse(json)]),
      ),
    })),
    models,
    hides_model: hidesModel,
    set_at: new Date(setAt).toISOString(),
  };
}
