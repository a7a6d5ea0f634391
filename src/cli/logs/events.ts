/** Reads an engine's log as the head sends it: one event a line, of which nothing is certain. */

import type { LogEvent } from "../../protocol/engine-log.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { type JsonRecord, fieldsIn, number, text } from "../../util/json.ts";

/** A line of an engine is at most 16 KiB; as JSON it is longer. */
const MAX_EVENT_CHARS = 256 * 1024;
const MAX_TEXT_CHARS = 32 * 1024;

/**
 * The events of each piece that comes; none in a sign of life. What is not known is passed over.
 * Throws `bad_message` for a line without an end.
 */
export async function* readLogEvents(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<readonly LogEvent[]> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > MAX_EVENT_CHARS) {
      throw new LlmnodeError("bad_message", "what the head sent is not the log of an engine");
    }
    yield lines.flatMap((line) => readEvent(line) ?? []);
  }
}

function readEvent(line: string): LogEvent | null {
  let event: JsonRecord;
  try {
    event = fieldsIn(JSON.parse(line));
  } catch {
    // A sign of life, or what broke off in the middle.
    return null;
  }
  const word = (key: string) => cleanLine(text(event[key]) ?? "", MAX_TEXT_CHARS);
  switch (event["type"]) {
    case "line":
      return { type: "line", text: word("text") };
    case "live":
      return { type: "live", text: word("text") };
    case "left_out":
      return {
        type: "left_out",
        lines: number(event["lines"]) ?? 0,
        lost_bytes: number(event["lost_bytes"]) ?? 0,
      };
    case "run":
      return { type: "run", run: word("run"), started_at: word("started_at") };
    case "position":
      return { type: "position", position: word("position") };
    case "end":
      return { type: "end" };
    case "error":
      return { type: "error", code: word("code"), message: word("message") };
    default:
      return null;
  }
}
