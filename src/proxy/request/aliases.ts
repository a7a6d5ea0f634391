/** What a request for an alias gets: the model that it stands for, and the members of its preset. */

// The client's own word wins: a preset fills what the client left out, or left at null as SDKs do.

import { type ErrorCode, LlmnodeError } from "../../protocol/errors.ts";
import type { Plan } from "../../util/flow/slices.ts";
import { Names } from "../json/names.ts";
import { ObjectScan, type Span } from "../json/scan.ts";
import { type Edit, insertFirst } from "./edits.ts";

/** A member that requests get where the client says nothing of it. */
export interface PresetKey {
  /** From the body's top level inwards. */
  path: readonly string[];
  /** Its value as JSON. */
  json: string;
}

export interface ModelTarget {
  model: string;
  preset: readonly PresetKey[];
}

/**
 * The models that will do for an alias, the first one first; null where the name is none. Asked
 * once for each request.
 */
export type Aliases = (name: string) => readonly ModelTarget[] | null;

/** What the request gets at a replica of `model`, which is that replica's own name for it. */
export function targetAt(
  targets: readonly ModelTarget[] | null,
  model: string,
): ModelTarget | null {
  if (targets === null) return null;
  // Replicas may know a model by a name with `:latest`, and be found by one without.
  const bare = (name: string) => name.replace(/:latest$/, "");
  const found =
    targets.find((target) => target.model === model) ??
    targets.find((target) => bare(target.model) === bare(model));
  return { model, preset: found?.preset ?? [] };
}

/** Why an alias gets no replica: such words name the model that it led to, not what was asked for. */
export function aliasError(error: unknown, alias: string | null): unknown {
  if (!(error instanceof LlmnodeError) || !ABOUT_MODELS.has(error.code)) return error;
  const { code, hints, param, retryAfterMs } = error;
  return new LlmnodeError(code, `${JSON.stringify(alias)} is an alias. ${error.message}`, {
    hints: [...hints],
    ...(param === null ? {} : { param }),
    ...(retryAfterMs === null ? {} : { retryAfterMs }),
    cause: error,
  });
}

const ABOUT_MODELS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "model_not_found",
  "not_found",
  "unknown_url",
  "no_ready_replica",
  "queue_full",
]);

/**
 * What makes a body one for the target. `model` is where it names its model; none of the edits
 * overlaps another one, nor those of members that a preset may not have.
 */
export function* targetEdits(bytes: Uint8Array, model: Span, target: ModelTarget): Plan<Edit[]> {
  const edits: Edit[] = [
    { start: model.start, end: model.end, text: JSON.stringify(target.model) },
  ];
  if (target.preset.length === 0) return edits;
  const filled = yield* fill(bytes, { start: 0, end: bytes.length }, treeOf(target.preset));
  return [...edits, ...filled];
}

/** JSON, or members by name. */
type Node = string | Tree;
type Tree = Map<string, Node>;

function treeOf(preset: readonly PresetKey[]): Tree {
  const tree: Tree = new Map();
  for (const { path, json } of preset) {
    let at = tree;
    for (const key of path.slice(0, -1)) {
      const known = at.get(key);
      const next: Tree = known instanceof Map ? known : new Map<string, Node>();
      at.set(key, next);
      at = next;
    }
    at.set(path.at(-1) ?? "", json);
  }
  return tree;
}

/** Puts what is missing into the object at `span`, and into the objects in it. */
function* fill(bytes: Uint8Array, span: Span, tree: Tree): Plan<Edit[]> {
  const object = bytes.subarray(span.start, span.end);
  const scan = new ObjectScan(object, new Names(tree.keys()));
  yield scan;
  const missing: string[] = [];
  const edits: Edit[] = [];
  for (const [key, node] of tree) {
    const member = scan.get(key);
    if (!member) {
      missing.push(`${JSON.stringify(key)}:${write(node)}`);
    } else if (object[member.start] === NULL) {
      edits.push({ start: member.start, end: member.end, text: write(node) });
    } else if (node instanceof Map && object[member.start] === OPEN_OBJECT) {
      edits.push(...(yield* fill(object, member, node)));
    }
  }
  if (missing.length > 0) edits.push(insertFirst(scan, missing.join(",")));
  return edits.map(({ start, end, text }) => ({
    start: start + span.start,
    end: end + span.start,
    text,
  }));
}

const OPEN_OBJECT = 0x7b;
/** What `null` begins with, as no other value does. */
const NULL = 0x6e;

function write(node: Node): string {
  if (typeof node === "string") return node;
  return `{${[...node].map(([key, inner]) => `${JSON.stringify(key)}:${write(inner)}`).join(",")}}`;
}
