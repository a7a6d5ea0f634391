/** Opens lanes to the head as it asks for them, and serves the requests that come over them. */

import { decodeFrame } from "../protocol/lane-frames.ts";
import type { Log } from "../util/log.ts";
import { createWorkerLane, type EngineTarget } from "./lane.ts";

export interface LanesOptions {
  /** `ws://` or `wss://`, with host and port. */
  url: string;
  /** The head's certificate in PEM, the only one that is accepted; null without TLS. */
  ca: string | null;
  workerId: string;
  /** The session's lane key. */
  key: string;
  engine: (number: string) => EngineTarget | null;
  log: Log;
  /** Lanes that may be open at once, whatever the head asks for. */
  maxLanes: number;
}

export interface Lanes {
  readonly open: number;
  /** Opens that many more. */
  add(count: number): void;
  /** Closes every lane; requests on them are cancelled. */
  close(): void;
}

/** Failures are the head's to notice: it asks again for lanes that do not come. */
export function startLanes(options: LanesOptions): Lanes {
  const sockets = new Set<WebSocket>();
  let closed = false;

  const open = () => {
    const socket = new WebSocket(options.url, {
      headers: {
        authorization: `Bearer ${options.key}`,
        "x-llmnode-worker-id": options.workerId,
      },
      perMessageDeflate: false,
      ...(options.ca === null ? {} : { tls: { ca: options.ca, serverName: "llmnode-head" } }),
    });
    socket.binaryType = "arraybuffer";
    sockets.add(socket);
    const lane = createWorkerLane({
      engine: options.engine,
      send: (bytes) => {
        if (socket.readyState === WebSocket.OPEN) socket.send(bytes);
      },
      close: () => socket.terminate(),
    });
    socket.addEventListener("message", (event) => {
      const data: unknown = event.data;
      const frame = data instanceof ArrayBuffer ? decodeFrame(new Uint8Array(data)) : null;
      if (frame) lane.take(frame);
      else socket.terminate();
    });
    socket.addEventListener("error", () => {
      options.log.debug("a lane could not be opened or broke");
    });
    socket.addEventListener("close", () => {
      sockets.delete(socket);
      lane.closed();
    });
  };
  return {
    get open() {
      return sockets.size;
    },
    add(count) {
      for (let i = 0; i < count && sockets.size < options.maxLanes && !closed; i += 1) open();
    },
    close() {
      closed = true;
      for (const socket of sockets) socket.terminate();
    },
  };
}
