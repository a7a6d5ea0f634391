/** What a worker does on the word of its head. */

import type { Examine, HeadMessage, HeartbeatAck, UnknownMessage } from "../protocol/messages.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";

export interface OrdersOptions {
  log: Log;
  onAck: (ack: HeartbeatAck) => void;
  openLanes: (count: number) => void;
  /** The head wants the engine stopped and started again. */
  onRestart: (reason: string) => void;
  /** The head wants to know more of the engine. */
  onExamine: (examine: Examine) => void;
}

/** Takes a message of a session that was accepted. */
export function takeOrder(options: OrdersOptions, message: HeadMessage | UnknownMessage): void {
  const { log } = options;
  switch (message.message) {
    case "heartbeatAck":
      options.onAck(message.heartbeatAck);
      break;
    case "drain": {
      const { active, reason } = message.drain;
      log.info(active ? "the head gives no new requests" : "the head gives requests again", {
        reason: reason || undefined,
      });
      break;
    }
    case "openLanes":
      options.openLanes(message.openLanes.count);
      break;
    case "restartEngine":
      options.onRestart(message.restartEngine.reason);
      break;
    case "examine":
      options.onExamine(message.examine);
      break;
    case "notice": {
      const hint = cleanLine(message.notice.hint, 500) || undefined;
      log.warn(`the head says: ${cleanLine(message.notice.text, 500)}`, { hint });
      break;
    }
    case "welcome":
    case "refusal":
      break;
    case undefined:
      log.debug("a message of a newer head was ignored");
  }
}
