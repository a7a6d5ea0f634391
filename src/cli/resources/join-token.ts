/** `llmnode join-token`: shows, makes, lists and takes back what lets workers in. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { number, text } from "../../util/json.ts";
import type { Options } from "../base/options.ts";
import { type Action, column, listAction, resourceCommand, timeColumn } from "./resource.ts";

const ACTIONS: Record<string, Action> = {
  show: {
    ask: () => ({ path: "/first" }),
    lines({ token }) {
      if (typeof token === "string") return [token];
      throw new LlmnodeError("not_found", "the head's first join token was revoked", {
        hints: ["make another:   llmnode join-token rotate   (or llmnode join-token create)"],
      });
    },
  },
  create: {
    ask: ({ options }) => ({ body: limitsOf(options) }),
    lines: ({ token }) => [text(token) ?? ""],
    notes: () => ["shown this once; anyone who has it can join a worker"],
  },
  rotate: {
    ask: () => ({ path: "/rotate", body: {} }),
    lines: ({ token }) => [text(token) ?? ""],
    notes: () => ["the previous one no longer lets workers in; those that are in stay"],
  },
  list: listAction(
    "join_tokens",
    [
      column("ID", "id"),
      column("STATE", "state"),
      {
        head: "USES",
        text({ uses, uses_max: most }) {
          const limit = number(most);
          return limit === null ? String(number(uses) ?? "?") : `${number(uses) ?? "?"}/${limit}`;
        },
      },
      timeColumn("EXPIRES", "expires_at"),
      column("MODELS", "models", "any"),
      {
        head: "NOTE",
        text: ({ first, note }) => (first === true ? "the first one" : (text(note) ?? "")),
      },
    ],
    "no join tokens. Make one: llmnode join-token create",
  ),
  revoke: {
    needs: "an id of: llmnode join-token list",
    ask: ({ word }) => ({ path: "/revoke", body: { id: word } }),
    notes: (_, { word }) => [`${cleanLine(word, 80)}: revoked; workers that joined with it stay`],
  },
};

export const joinTokenCommand = resourceCommand({
  name: "join-token",
  usage: "join-token show|create|list|revoke <id>|rotate [options]",
  summary: "show, make, list and take back what lets workers in",
  details: [
    "show prints the head's first join token; create makes another, with limits, and shows it once;",
    "rotate replaces the first one; revoke takes one back. Workers that are in stay in: each has a",
    "credential of its own, which `llmnode forget` takes back.",
  ],
  path: "/api/v1/join-tokens",
  actions: ACTIONS,
  wordName: "id",
  options: [
    { flag: "expires", value: "<duration>", summary: "create: until when it lets workers in" },
    { flag: "uses", value: "<count>", summary: "create: how many workers may join with it" },
    {
      flag: "models",
      value: "<pattern>",
      summary: "create: which models its workers may offer, such as 'Qwen/*'",
    },
    { flag: "note", value: "<text>", summary: "create: what it is for" },
  ],
  examples: [
    "llmnode join-token show",
    "llmnode join-token create --expires 7d --uses 1 --models 'Qwen/*'",
    "llmnode join-token list",
  ],
});

function limitsOf(options: Options): object {
  const expires = options.durationMs("expires");
  if (expires === 0) throw options.invalid("expires", "more than zero");
  return {
    expires_in_ms: expires,
    uses: options.integer("uses", { min: 1, max: 1_000_000 }),
    models: options.text("models"),
    note: options.text("note"),
  };
}
