/** Operators' requests about aliases. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { type Body, flag } from "../http/body.ts";
import type { AliasInfo, HeadAliases } from "../store/aliases.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

export function aliasRoutes(aliases: HeadAliases): AdminRoute[] {
  const set: AdminHandler = async (body) => {
    const force = flag(body, "force");
    const { info, warnings } = await aliases.set(written(body, "alias"), { force });
    return { alias: aliasJson(info), warnings };
  };
  const list = async () => ({ aliases: aliases.list().map(aliasJson) });
  return [
    ["GET", "/api/v1/aliases", "viewer", list],
    ["POST", "/api/v1/aliases", "operator", set],
    [
      "POST",
      "/api/v1/aliases/remove",
      "operator",
      async (body) => await aliases.remove(written(body, "name")),
    ],
  ];
}

/** Its form is checked where the alias is parsed. */
function written(body: Body, key: string): string {
  const value = body[key];
  if (typeof value === "string") return value;
  throw new LlmnodeError("bad_request", `${key} must be a text.`, { param: key });
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
