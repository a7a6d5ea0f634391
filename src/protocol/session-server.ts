/** The head's end of the session link: a gRPC server that hands out one object per session. */

import {
  type handleBidiStreamingCall,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
} from "@grpc/grpc-js";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import { LlmnodeError, messageOf } from "./errors.ts";
import {
  type HeadMessage,
  MAX_MESSAGE_BYTES,
  type UnknownMessage,
  type WorkerMessage,
} from "./messages.ts";
import { loadService } from "./schema.ts";

/** One worker's stream. Its handlers are set by `onSession`, before anything arrives. */
export interface ServerSession {
  /** The worker's address without the port. */
  readonly address: string;
  /** Sends unless the worker has stopped reading: then false, and the message is dropped. */
  send(message: HeadMessage): boolean;
  /** Ends the stream; what was sent before still goes out. */
  end(): void;
  onMessage: (message: WorkerMessage | UnknownMessage) => void;
  /** Called once, however the stream ended. */
  onClose: () => void;
}

export interface SessionServerOptions {
  listen: HostPort;
  onSession: (session: ServerSession) => void;
  /** Pings on a quiet connection, so that a vanished peer is noticed. */
  keepaliveMs?: number;
  keepaliveTimeoutMs?: number;
  /** How much may wait for a worker that does not read before messages are dropped. */
  maxBufferedBytes?: number;
}

export interface SessionServer extends AsyncDisposable {
  readonly address: HostPort;
}

/** Throws `port_in_use` or `address_unusable`. */
export async function startSessionServer(options: SessionServerOptions): Promise<SessionServer> {
  const maxBufferedBytes = options.maxBufferedBytes ?? 256 * 1024;
  const server = new Server({
    "grpc.keepalive_time_ms": options.keepaliveMs ?? 10_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 5000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_concurrent_streams": 4,
  });
  const join: handleBidiStreamingCall<WorkerMessage | UnknownMessage, HeadMessage> = (call) => {
    options.onSession(adopt(call, maxBufferedBytes));
  };
  server.addService(loadService(), { Join: join });
  const port = await bind(server, options.listen);
  return {
    address: { host: options.listen.host, port },
    async [Symbol.asyncDispose]() {
      // A worker's stream never ends by itself, so there is nothing to wait for.
      server.forceShutdown();
    },
  };
}

function adopt(
  call: ServerDuplexStream<WorkerMessage | UnknownMessage, HeadMessage>,
  maxBufferedBytes: number,
): ServerSession {
  let closed = false;
  const session: ServerSession = {
    address: hostOf(call.getPeer()),
    send(message) {
      if (closed || call.cancelled || call.writableLength > maxBufferedBytes) return false;
      call.write(message);
      return true;
    },
    end() {
      if (!closed) call.end();
    },
    onMessage() {},
    onClose() {},
  };
  // `close` may be missing after `cancelled` and `end` after an error, so that each counts; the
  // first one wins.
  const close = () => {
    if (closed) return;
    closed = true;
    session.onClose();
  };
  call.on("data", (message: WorkerMessage | UnknownMessage) => {
    if (!closed) session.onMessage(message);
  });
  call.on("end", () => {
    call.end();
    close();
  });
  call.on("cancelled", close);
  call.on("close", close);
  call.on("error", close);
  // Tells the worker at once that it has been reached.
  call.sendMetadata(call.metadata.clone());
  return session;
}

function bind(server: Server, listen: HostPort): Promise<number> {
  const address = formatHostPort(listen);
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
      if (!error) return resolve(port);
      const text = messageOf(error);
      const taken = text.includes("EADDRINUSE");
      const why = taken ? "the port is taken" : text;
      reject(
        new LlmnodeError(
          taken ? "port_in_use" : "address_unusable",
          `cannot listen for workers on ${address}: ${why}`,
          { hints: ["choose another address: llmnode head --session-listen HOST:PORT"] },
        ),
      );
    });
  });
}

/** The host part of grpc-js's `getPeer()`: `127.0.0.1:5000`, `[::1]:5000`, `::1:5000`. */
function hostOf(peer: string): string {
  const host = peer.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host.replace(/^::ffff:(?=\d+\.)/i, "");
}
