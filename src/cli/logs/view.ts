/** Shows an engine's log: its lines as they are, what is missing in its place, progress in one line. */

import type { LogEvent } from "../../protocol/engine-log.ts";
import { count } from "../../util/text.ts";
import { formatBytes } from "../../util/units.ts";
import type { Terminal } from "../base/terminal.ts";

export interface LogView {
  show(event: LogEvent): void;
  /** A remark on the reading itself; it goes to stderr. */
  remark(text: string): void;
  /** Takes back what stands in a line that is not finished. */
  clear(): void;
}

export function createLogView(
  { out, err, columns }: Terminal,
  { json }: { json: boolean },
): LogView {
  /** Only a terminal can take back what it shows. */
  const canRedraw = columns !== null && !json;
  let isLive = false;
  const clear = () => {
    if (isLive) out.write("\r\u001b[K");
    isLive = false;
  };
  const print = (line: string) => {
    clear();
    out.write(`${line}\n`);
  };
  const text = (event: LogEvent): string[] => {
    switch (event.type) {
      case "line":
        return [event.text];
      case "left_out":
        return leftOut(event.lines, event.lost_bytes);
      case "run":
        return [`(the engine was started here, ${event.started_at})`];
      default:
        return [];
    }
  };
  return {
    clear,
    show(event) {
      if (event.type === "live") {
        if (!canRedraw) return;
        clear();
        out.write(event.text.slice(0, Math.max(1, columns - 1)));
        isLive = true;
        return;
      }
      if (!json) return text(event).forEach(print);
      if (text(event).length > 0) print(JSON.stringify(event));
    },
    remark(words) {
      clear();
      err.write(`${words}\n`);
    },
  };
}

function leftOut(lines: number, lostBytes: number): string[] {
  return [
    ...(lines > 0 ? [`(${count(lines, "line")} left out here: read too slowly)`] : []),
    ...(lostBytes > 0
      ? [`(${formatBytes(lostBytes)} lost here: they came faster than they can be kept)`]
      : []),
  ];
}
