/** Reads one frame of what the head streams to viewers. */

import { usage } from "../base/messages.ts";
import { isField } from "../../cluster/rows/order.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { FilterError, parseFilter } from "../../protocol/filter.ts";
import type { WatchFrame } from "../../protocol/watch-json.ts";
import { WATCH_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { View } from "../../protocol/watch-rows.ts";
import { readEvents } from "../../top/client/sse.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { getStream, type HeadClient } from "./api.ts";
import { parseFrame } from "./head-json.ts";
import { suggest } from "../base/suggest.ts";

/** As many rows as the head gives at once. */
export const ALL_ROWS = 10_000;

export interface FrameQuery {
  view: View;
  sort?: string;
  filter?: string;
  limit?: number;
  /** With workers that have left. */
  gone?: boolean;
  detail?: string;
}

/** A frame, and how old it can be at most by the time that is asked. */
export interface SeenFrame {
  frame: WatchFrame;
  ageMs(): number;
}

/**
 * Throws as `getStream`, `usage` for a filter that the head does not read, and `head_unreachable`
 * where it says nothing in time.
 */
export async function firstFrame(client: HeadClient, query: FrameQuery): Promise<SeenFrame> {
  const asked = performance.now();
  const late = AbortSignal.timeout(client.timeoutMs);
  const done = new AbortController();
  const signal = AbortSignal.any([late, done.signal]);
  try {
    const response = await getStream(client, `/api/v1/watch?${wordsOf(query)}`, signal);
    for await (const { event, data } of readEvents(response.body)) {
      if (event !== "frame") continue;
      const frame = parseFrame(data, query.view, client);
      const problem = frame.filter_problem;
      if (problem !== null) throw wrongFilter(query.filter ?? "", problem);
      return { frame, ageMs: () => Math.round(performance.now() - asked) };
    }
    throw notInTime(client, "it hung up");
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    throw notInTime(
      client,
      late.aborted ? `nothing to see in ${formatDuration(client.timeoutMs)}` : messageOf(error),
    );
  } finally {
    done.abort();
  }
}

function wordsOf({ view, sort, filter, limit, gone, detail }: FrameQuery): URLSearchParams {
  return new URLSearchParams({
    view,
    sort: sort ?? "name",
    limit: String(limit ?? ALL_ROWS),
    ...(filter ? { filter } : {}),
    ...(gone === true ? { gone: "1" } : {}),
    ...(detail === undefined ? {} : { detail }),
  });
}

function notInTime({ url }: HeadClient, why: string): LlmnodeError {
  return new LlmnodeError("head_unreachable", `the head at ${url} does not answer (${why})`);
}

/** What is wrong with the words that choose and sort rows, before anybody is asked. Throws `usage`. */
export function checkWords(
  view: View,
  words: { filter: string | null; sort: string | null },
): void {
  const filter = words.filter ?? "";
  try {
    parseFilter(filter, (field) => isField(view, field));
  } catch (error) {
    if (error instanceof FilterError) throw wrongFilter(filter, error);
    throw error;
  }
  const sort = words.sort?.replace(/^-/, "");
  if (sort === undefined || sort === "problems" || isField(view, sort)) return;
  throw noField("--sort", sort, WATCH_ROW_FIELDS[view]);
}

/** The error for a word that is no field. */
export function noField(flag: string, word: string, known: readonly string[]): LlmnodeError {
  const meant = suggest(word, known);
  return usage(
    `${flag}: there is no field "${cleanLine(word, 80)}"`,
    meant === null ? undefined : `did you mean ${meant}?`,
    `fields: ${known.join(", ")}`,
  );
}

/** With the place below the filter, where that fits. */
function wrongFilter(filter: string, { message, at }: { message: string; at: number }) {
  const isShort = Bun.stringWidth(filter) <= 80 && cleanLine(filter) === filter;
  const hints = isShort ? [filter, `${" ".repeat(at)}^`] : [];
  return usage(`--filter: ${message}`, ...hints);
}
