/** Opens lanes to the head as it asks for them, and serves the requests that come over them. */

import { decodeFrame } from "../protocol/lane-frames.ts";
import { HEAD_TLS_NAME } from "../protocol/pin.ts";
import { WORKER_TARGET } from "../protocol/engine-log.ts";
import { createHttpClient, type HttpClient } from "../util/http/client.ts";
import type { Upstream } from "../util/http/exchange.ts";
import type { Log } from "../util/log.ts";
import { createWorkerLane, type LaneTarget, type WorkerLane } from "./lane.ts";

/** Where lanes lead, and what opens them; each session may bring another. */
export interface LaneAddress {
  /** `ws://` or `wss://`, with host and port. */
  url: string;
  /** The head's certificate in PEM, the only one that is accepted; null without TLS. */
  ca: string | null;
  /** The session's lane key. */
  key: string;
}

export interface EngineTarget {
  url: string;
  /** What the engine wants as bearer. */
  apiKey: string | null;
}

export interface LanesOptions {
  /** Null when there is no such engine, or it has no address yet. */
  engine: (number: string) => EngineTarget | null;
  /** Answers what is for the worker itself. */
  logService?: Upstream;
  /** Null while there is no session. */
  address: () => LaneAddress | null;
  workerId: string;
  log: Log;
  /** Lanes that may be open at once, whatever the head asks for. */
  maxLanes: number;
  /** How long after a new session the free lanes of an earlier one may still be used. */
  oldLaneMs?: number;
}

interface OpenLane {
  lane: WorkerLane;
  /** Of the session that opened it. */
  key: string;
}

export interface Lanes {
  readonly open: number;
  add(count: number): void;
  /** Closes every lane; requests on them are cancelled. */
  close(): void;
}

/** Failures are the head's to notice: it asks again for lanes that do not come. */
export function startLanes(options: LanesOptions): Lanes {
  const { log } = options;
  const sockets = new Map<WebSocket, OpenLane>();
  const http = createHttpClient();
  let closed = false;
  let hasWarned = false;
  let newest = "";
  let sweeping: ReturnType<typeof setTimeout> | undefined;

  /**
   * The head has closed the free lanes of earlier sessions; where the route to it has changed, that
   * never arrives. The time is for requests that were sent before.
   */
  const sweep = () => {
    for (const [socket, { lane, key }] of sockets) {
      if (key !== newest && !lane.busy) socket.terminate();
    }
  };

  /** A warning only once: a head that breaks the rules does so on every lane. */
  const onFault = (fault: string) => {
    const text = `closed a lane, the head broke the protocol: ${fault}`;
    if (hasWarned) log.debug(text);
    else log.warn(text);
    hasWarned = true;
  };

  const target = createTargets(options, http);

  const open = (address: LaneAddress) => {
    const socket = openSocket(address, options.workerId);
    const lane = createWorkerLane({
      target,
      send: (bytes) => {
        if (socket.readyState === WebSocket.OPEN) socket.send(bytes);
      },
      close(fault) {
        onFault(fault);
        socket.terminate();
      },
    });
    sockets.set(socket, { lane, key: address.key });
    socket.addEventListener("message", (event) => {
      const data: unknown = event.data;
      const frame = data instanceof ArrayBuffer ? decodeFrame(new Uint8Array(data)) : null;
      if (frame) return lane.take(frame);
      onFault("not a frame");
      lane.closed();
      socket.terminate();
    });
    socket.addEventListener("error", () => {
      log.debug("a lane could not be opened or broke");
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
      if (address.key !== newest) {
        newest = address.key;
        clearTimeout(sweeping);
        sweeping = setTimeout(sweep, options.oldLaneMs ?? 30_000);
      }
      for (let i = 0; i < count && sockets.size < options.maxLanes; i += 1) open(address);
    },
    close() {
      closed = true;
      clearTimeout(sweeping);
      for (const socket of sockets.keys()) socket.terminate();
      http[Symbol.dispose]();
    },
  };
}

/** Where requests go: to the engine at its address of now, or to the worker itself. */
function createTargets({ engine, logService }: LanesOptions, http: HttpClient) {
  return (name: string): LaneTarget | null => {
    if (name === WORKER_TARGET) {
      return logService ? { upstream: logService, apiKey: null } : null;
    }
    const found = engine(name);
    if (found === null) return null;
    return { upstream: http.at(found.url), apiKey: found.apiKey };
  };
}

function openSocket({ url, ca, key }: LaneAddress, workerId: string): WebSocket {
  const socket = new WebSocket(url, {
    headers: { authorization: `Bearer ${key}`, "x-llmnode-worker-id": workerId },
    perMessageDeflate: false,
    ...(ca === null ? {} : { tls: { ca, serverName: HEAD_TLS_NAME } }),
  });
  socket.binaryType = "arraybuffer";
  return socket;
}
