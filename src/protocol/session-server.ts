/** The head's end of the session link: a gRPC server that hands out one object per session. */

import { EventEmitter } from "node:events";
import {
  type handleBidiStreamingCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { formatHostPort, type HostPort, peerHost, plainAddress } from "../util/host-port.ts";
import { LlmnodeError, messageOf } from "./errors.ts";
import {
  type HeadMessage,
  MAX_MESSAGE_BYTES,
  type UnknownMessage,
  type WorkerMessage,
} from "./messages.ts";
import { loadService } from "./schema.ts";

const MAX_SHOWN_CHARS = 256;
/** How much may wait for a worker that does not read before messages are dropped. */
const MAX_BUFFERED_BYTES = 256 * 1024;
/** What grpc-js cuts off itself, without a word to us; up to it the head says what is wrong. */
const MAX_RECEIVED_BYTES = 2 * 1024 * 1024;

/** One worker's stream. Its handlers are set by `onSession`, before anything arrives. */
export interface ServerSession {
  /** The worker's address without the port. */
  readonly address: string;
  /** What the worker shows to be let in. */
  readonly shown: { readonly credential: string | null; readonly joinToken: string | null };
  /** Sends unless the worker has stopped reading: then false, and the message is dropped. */
  send(message: HeadMessage): boolean;
  /** Ends the stream; what was sent before still goes out. */
  end(): void;
  onMessage: (message: WorkerMessage | UnknownMessage) => void;
  /** A message is longer than the contract allows; it was not looked into. */
  onOversized: (bytes: number) => void;
  /** Called once, however the stream ended. */
  onClose: () => void;
}

export interface SessionServerOptions {
  listen: HostPort;
  /** PEM; null for a network that is trusted. */
  tls: { key: string; cert: string } | null;
  onSession: (session: ServerSession) => void;
  /** A client at `address` speaks TLS to a port without it (`tls`), or the other way round. */
  onMismatch?: (address: string, spoke: "tls" | "plain") => void;
}

export interface SessionServer extends AsyncDisposable {
  readonly address: HostPort;
}

/** Throws `port_in_use` or `address_unusable`. */
export async function startSessionServer(options: SessionServerOptions): Promise<SessionServer> {
  const server = new Server({
    // Pings on a quiet connection, so that a vanished peer is noticed.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": MAX_RECEIVED_BYTES,
    "grpc.max_concurrent_streams": 4,
  });
  const join: handleBidiStreamingCall<WorkerMessage | UnknownMessage, HeadMessage> = (call) => {
    options.onSession(adopt(call));
  };
  server.addService(sizedService(), { Join: join });
  const port = await bind(server, options);
  if (options.onMismatch) watchMismatches(server, options.onMismatch);
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
): ServerSession {
  let closed = false;
  const session: ServerSession = {
    address: peerHost(call.getPeer()),
    shown: {
      credential: /^Bearer (\S+)$/.exec(metadataOf(call, "authorization"))?.[1] ?? null,
      joinToken: metadataOf(call, "x-llmnode-join-token") || null,
    },
    send(message) {
      if (closed || call.cancelled || call.writableLength > MAX_BUFFERED_BYTES) return false;
      call.write(message);
      return true;
    },
    end() {
      if (!closed) call.end();
    },
    onMessage() {},
    onOversized() {},
    onClose() {},
  };
  // `close` may be missing after `cancelled` and `end` after an error, so that each counts; the
  // first one wins.
  const close = () => {
    if (closed) return;
    closed = true;
    session.onClose();
  };
  call.on("data", (message: WorkerMessage | UnknownMessage | Oversized) => {
    if (closed) return;
    if (message instanceof Oversized) session.onOversized(message.bytes);
    else session.onMessage(message);
  });
  call.on("end", () => {
    call.end();
    close();
  });
  call.on("cancelled", close);
  call.on("close", close);
  call.on("error", close);
  // Shows the worker at once that the head has been reached.
  call.sendMetadata(call.metadata.clone());
  return session;
}

/** Stands for a message that is longer than the contract allows. */
class Oversized {
  readonly bytes: number;

  constructor(bytes: number) {
    this.bytes = bytes;
  }
}

/** The service, which does not take messages apart that are too long. */
function sizedService(): ServiceDefinition {
  const service = loadService();
  const join = service["Join"];
  if (!join) throw new Error("the service has no Join");
  const requestDeserialize = (bytes: Buffer): unknown =>
    bytes.length > MAX_MESSAGE_BYTES ? new Oversized(bytes.length) : join.requestDeserialize(bytes);
  return { ...service, Join: { ...join, requestDeserialize } };
}

/**
 * grpc-js says nothing about connections that fail before a call, but its HTTP/2 servers do. It
 * keeps them to itself: should that change, only these words are lost, and a test says so.
 */
function watchMismatches(
  server: Server,
  onMismatch: (address: string, spoke: "tls" | "plain") => void,
): void {
  const servers: unknown = Reflect.get(server, "http2Servers");
  if (!(servers instanceof Map)) return;
  for (const listener of servers.keys() as Iterable<unknown>) {
    if (!(listener instanceof EventEmitter)) continue;
    listener.on("tlsClientError", (error: unknown, socket: unknown) => {
      if (/WRONG_VERSION_NUMBER|HTTP_REQUEST/.test(messageOf(error))) {
        onMismatch(remoteOf(socket), "plain");
      }
    });
    // When a session fails, its socket knows its peer no more.
    const addresses = new WeakMap<object, string>();
    listener.on("session", (session: object) => {
      addresses.set(session, remoteOf(Reflect.get(session, "socket")));
    });
    listener.on("sessionError", (error: unknown, session: object) => {
      // The first bytes were no HTTP/2: most likely TLS, of a worker that expects it.
      if (!/bad client magic/i.test(messageOf(error))) return;
      onMismatch(addresses.get(session) ?? "", "tls");
    });
  }
}

/** The address of a socket that may be gone already. */
function remoteOf(socket: unknown): string {
  const address: unknown =
    typeof socket === "object" && socket !== null ? Reflect.get(socket, "remoteAddress") : null;
  return typeof address === "string" ? plainAddress(address) : "";
}

function bind(server: Server, { listen, tls }: SessionServerOptions): Promise<number> {
  const address = formatHostPort(listen);
  const credentials =
    tls === null
      ? ServerCredentials.createInsecure()
      : ServerCredentials.createSsl(
          null,
          [{ private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.cert) }],
          false,
        );
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
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

/** A bounded value of the call's metadata, or nothing. */
function metadataOf(call: { metadata: Metadata }, name: string): string {
  const value = call.metadata.get(name)[0];
  return typeof value === "string" ? value.slice(0, MAX_SHOWN_CHARS) : "";
}
