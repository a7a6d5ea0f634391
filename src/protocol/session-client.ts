/** The worker's end of the session link: one dial, one stream, one connection of its own. */

import { Client, type ClientDuplexStream, credentials, Metadata } from "@grpc/grpc-js";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import { messageOf } from "./errors.ts";
import {
  type HeadMessage,
  MAX_MESSAGE_BYTES,
  type UnknownMessage,
  type WorkerMessage,
} from "./messages.ts";

export interface DialOptions {
  service: ServiceDefinition;
  head: HostPort;
  onMessage: (message: HeadMessage | UnknownMessage) => void;
  /** Called once, with the reason in words for people. */
  onClose: (reason: string) => void;
  keepaliveMs?: number;
  keepaliveTimeoutMs?: number;
}

export interface ClientSession {
  /** False when the head does not read fast enough; the message is sent all the same. */
  send(message: WorkerMessage): boolean;
  /** Ends the stream politely; `onClose` follows. */
  end(): void;
  /** Drops the connection now; `onClose` is called with `reason`. */
  drop(reason: string): void;
}

/** Dials the head and opens the session's stream. Never throws: failures come by `onClose`. */
export function dial(options: DialOptions): ClientSession {
  const { head, service } = options;
  const method = service["Join"];
  if (!method) throw new Error("the service has no Join");
  // Retries, proxies and a shared connection pool would each hide or delay the end of a session.
  const client = new Client(target(head), credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    "grpc.keepalive_time_ms": options.keepaliveMs ?? 10_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 5000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  });
  const call: ClientDuplexStream<WorkerMessage, HeadMessage | UnknownMessage> =
    client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      new Metadata(),
      {},
    );
  let closed = false;
  const close = (reason: string) => {
    if (closed) return;
    closed = true;
    call.cancel();
    client.close();
    options.onClose(reason);
  };
  call.on("data", (message: HeadMessage | UnknownMessage) => {
    if (!closed) options.onMessage(message);
  });
  call.on("error", (error) => close(plain(error)));
  call.on("end", () => close("the head ended the session"));
  call.on("status", (status) => {
    close(status.code === 0 ? "the head ended the session" : plain(status.details));
  });
  return {
    send: (message) => !closed && call.write(message),
    end() {
      if (!closed) call.end();
    },
    drop: close,
  };
}

/** grpc-js takes a bare `host:port` as a DNS name, an IPv6 address only with its scheme. */
function target(head: HostPort): string {
  return head.host.includes(":") ? `ipv6:${formatHostPort(head)}` : `dns:${formatHostPort(head)}`;
}

/** The cause inside grpc-js's wrapping, such as "connection refused". */
function plain(error: unknown): string {
  const text = messageOf(error);
  if (text.includes("ECONNREFUSED")) return "connection refused";
  if (
    text.includes("ENOTFOUND") ||
    text.includes("EAI_AGAIN") ||
    text.includes("Name resolution")
  ) {
    return "the name cannot be resolved";
  }
  if (text.includes("EHOSTUNREACH") || text.includes("ENETUNREACH")) return "no route to the host";
  if (text.includes("ETIMEDOUT")) return "no answer";
  const last = /Last error: (?:Error: )?(.+?)\.?(?: Resolution note:.*)?$/.exec(text);
  const inner = (last?.[1] ?? text).replace(/^\d+ [A-Z_]+: /, "");
  return inner === "" || inner === "null" ? "the connection broke" : inner;
}
