/** Opens lanes to the head as it asks for them, and serves the requests that come over them. */

import { decodeFrame } from "../protocol/lane-frames.ts";
import { HEAD_TLS_NAME } from "../protocol/pin.ts";
import type { Log } from "../util/log.ts";
import { createWorkerLane, type EngineTarget } from "./lane.ts";

/** Where lanes lead, and what opens them; each session may bring another. */
export interface LaneAddress {
  /** `ws://` or `wss://`, with host and port. */
  url: string;
  /** The head's certificate in PEM, the only one that is accepted; null without TLS. */
  ca: string | null;
  /** The session's lane key. */
  key: string;
}

export interface LanesOptions {
  /** Null while there is no session. */
  address: () => LaneAddress | null;
  workerId: string;
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

  const open = ({ url, ca, key }: LaneAddress) => {
    const socket = new WebSocket(url, {
      headers: {
        authorization: `Bearer ${key}`,
        "x-llmnode-worker-id": options.workerId,
      },
      perMessageDeflate: false,
      ...(ca === null ? {} : { tls: { ca, serverName: HEAD_TLS_NAME } }),
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
      const address = options.address();
      if (!address || closed) return;
      for (let i = 0; i < count && sockets.size < options.maxLanes; i += 1) open(address);
    },
    close() {
      closed = true;
      for (const socket of sockets) socket.terminate();
    },
  };
}
