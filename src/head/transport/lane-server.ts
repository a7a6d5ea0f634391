/** The port on which workers open lanes: WebSockets, one request at a time each. */

import { timingSafeEqual } from "node:crypto";
import type { ServerWebSocket, WebSocketHandler } from "bun";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { decodeFrame, MAX_LANE_FRAME_BYTES } from "../../protocol/lane-frames.ts";
import { formatHostPort, type HostPort } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import type { Lane } from "./lane.ts";
import { LANE_SETTINGS, type LanePool } from "./lane-pool.ts";
import { createRefusalLog } from "../events/refusal-log.ts";

interface LaneServerOptions {
  listen: HostPort;
  /** PEM; null for a trusted network. */
  tls: { key: string; cert: string } | null;
  /** The pool and key of a worker, while it has a session. */
  worker: (id: string) => { pool: LanePool; key: string; heard: () => void } | null;
  log: Log;
  /** How long a lane may be silent, pings included, before it counts as dead. */
  deadAfterMs?: number;
}

interface SocketData {
  pool: LanePool;
  heard: () => void;
  lane: Lane | null;
  heardAt: number;
  /** Called with a rule that the worker has broken. */
  onFault: (fault: string) => void;
}

/** More than credit allows to wait in a socket; a socket that is behind that far is closed. */
const BACKPRESSURE_BYTES = 4 * 1024 * 1024;

/** Throws `port_in_use`, `address_unusable`. */
export function startLaneServer(options: LaneServerOptions) {
  const { listen, log } = options;
  const onRefused = createRefusalLog({ log, now: () => performance.now() });
  const watch = watchLanes(options.deadAfterMs ?? LANE_SETTINGS.deadAfterMs);
  try {
    const server = Bun.serve<SocketData>({
      hostname: listen.host,
      port: listen.port,
      development: false,
      reusePort: false,
      idleTimeout: 30,
      ...(options.tls === null ? {} : { tls: options.tls }),
      fetch(request, server) {
        const address = server.requestIP(request)?.address ?? "";
        const worker = authorised(options, request);
        if (!worker) {
          const reason = "a lane without the lane key of its worker's session";
          onRefused({ address, code: "credential_unknown", reason });
          return new Response("not a worker with a session\n", { status: 401 });
        }
        const data: SocketData = {
          pool: worker.pool,
          heard: worker.heard,
          lane: null,
          heardAt: performance.now(),
          onFault: (fault) =>
            onRefused({ address, code: "bad_message", reason: `a lane was closed: ${fault}` }),
        };
        if (server.upgrade(request, { data })) return undefined;
        return new Response("a lane is a WebSocket\n", { status: 426 });
      },
      error(error) {
        const { stack } = error;
        log.error("internal error at the lane port", { error: messageOf(error), stack });
        return new Response("failed\n", { status: 500 });
      },
      websocket: socketHandler(watch),
    });
    return {
      address: { host: listen.host, port: server.port ?? 0 },
      async [Symbol.asyncDispose]() {
        watch[Symbol.dispose]();
        await server.stop(true);
      },
    };
  } catch (error) {
    watch[Symbol.dispose]();
    throw cannotListen(listen, error);
  }
}

function cannotListen(listen: HostPort, cause: unknown): LlmnodeError {
  const address = formatHostPort(listen);
  const isInUse = systemCode(cause) === "EADDRINUSE";
  return new LlmnodeError(
    isInUse ? "port_in_use" : "address_unusable",
    `cannot listen for lanes on ${address}: ${isInUse ? "the port is taken" : messageOf(cause)}`,
    { hints: ["choose another address: llmnode head --lane-listen HOST:PORT"], cause },
  );
}

function socketHandler(watch: LaneWatch): WebSocketHandler<SocketData> {
  return {
    perMessageDeflate: false,
    maxPayloadLength: MAX_LANE_FRAME_BYTES,
    backpressureLimit: BACKPRESSURE_BYTES,
    closeOnBackpressureLimit: true,
    // `watch` does that, to the millisecond.
    idleTimeout: 0,
    sendPings: false,
    open(socket) {
      watch.add(socket);
      socket.data.lane = socket.data.pool.adopt({
        // -1 is accepted and waits; 0 was dropped.
        send: (bytes) => socket.sendBinary(bytes) !== 0,
        close(fault) {
          if (fault !== undefined) socket.data.onFault(fault);
          socket.terminate();
        },
      });
      if (!socket.data.lane) socket.close(1013, "enough lanes");
    },
    message: onMessage,
    pong(socket) {
      socket.data.heardAt = performance.now();
    },
    close(socket) {
      watch.delete(socket);
      socket.data.lane?.onClosed();
    },
  };
}

/**
 * Parked lanes are silent, and so are those whose engine thinks: pings find the dead ones. Time
 * that this process itself has slept does not count.
 */
function watchLanes(deadAfterMs: number): LaneWatch {
  const sockets = new Set<ServerWebSocket<SocketData>>();
  const everyMs = deadAfterMs / 3;
  let checkedAt = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    const lateMs = Math.max(0, now - checkedAt - 2 * everyMs);
    checkedAt = now;
    for (const socket of sockets) {
      socket.data.heardAt += lateMs;
      const silentMs = now - socket.data.heardAt;
      if (silentMs >= deadAfterMs) socket.terminate();
      else if (silentMs >= everyMs / 2) socket.ping();
    }
  }, everyMs);
  return Object.assign(sockets, { [Symbol.dispose]: () => clearInterval(timer) });
}

type LaneWatch = Set<ServerWebSocket<SocketData>> & Disposable;

function onMessage(socket: ServerWebSocket<SocketData>, message: string | Buffer): void {
  socket.data.heardAt = performance.now();
  socket.data.heard();
  const frame = typeof message === "string" ? null : decodeFrame(message);
  if (frame) socket.data.lane?.onFrame(frame);
  else socket.data.lane?.close("not a frame");
}

/** The worker sends its id and the key that its session was given. */
function authorised(options: LaneServerOptions, request: Request) {
  const id = request.headers.get("x-llmnode-worker-id") ?? "";
  const shown = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  const worker = options.worker(id);
  if (!worker) return null;
  const [a, b] = [Buffer.from(shown), Buffer.from(worker.key)];
  return a.length === b.length && timingSafeEqual(a, b) ? worker : null;
}
