/** The worker's end of the session link: one dial, one stream, one connection of its own. */

import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
} from "@grpc/grpc-js";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { formatHostPort, type HostPort, peerHost } from "../util/host-port.ts";
import { LlmnodeError, messageOf } from "./errors.ts";
import {
  type HeadMessage,
  MAX_MESSAGE_BYTES,
  type Refusal,
  type UnknownMessage,
  type WorkerMessage,
} from "./messages.ts";
import { type HeadCertificate, HEAD_TLS_NAME, plainReason, speaksTls, verifyHead } from "./pin.ts";

/** A head that is trusted, by its key, and what it is shown. */
export interface HeadKey {
  fingerprint: string;
  credential: string | null;
  /** The secret part of a join token. */
  joinToken: string | null;
}

export interface DialOptions {
  service: ServiceDefinition;
  head: HostPort;
  /** Where to connect instead, such as a relay to the head; messages speak of the head. */
  dialAt?: HostPort;
  /** False: the head is not authenticated, and nothing is encrypted. */
  tls: boolean;
  /** Without TLS the first one is used. */
  keys: readonly HeadKey[];
  onMessage: (message: HeadMessage | UnknownMessage) => void;
  /** The head is who it should be; its certificate is all that lanes to it may trust. */
  onVerified?: (certificate: HeadCertificate) => void;
  /**
   * Called once, with the reason in words for people; with a refusal when what answers is not what
   * was asked for.
   */
  onClose: (reason: string, refusal: Refusal | null) => void;
  /** How long reading the head's certificate may take. */
  verifyTimeoutMs?: number;
}

export interface ClientSession {
  /** The address that the connection has reached, without its port; null before it stands. */
  reached(): string | null;
  /** False when the head does not read fast enough; the message is sent all the same. */
  send(message: WorkerMessage): boolean;
  /** Ends the stream politely; `onClose` follows. */
  end(): void;
  /** Drops the connection now; `onClose` is called with `reason`. */
  drop(reason: string): void;
}

type Call = ClientDuplexStream<WorkerMessage, HeadMessage | UnknownMessage>;

/** How long it may take to find out why a plain connection broke at once. */
const TLS_PROBE_MS = 1000;

/** Dials the head and opens the session's stream. Never throws: failures come by `onClose`. */
export function dial(options: DialOptions): ClientSession {
  const connecting = new AbortController();
  /** Sent before the connection was there. */
  const early: WorkerMessage[] = [];
  let open: { client: Client; call: Call } | null = null;
  let heard = false;
  let closed = false;

  const close = (reason: string, refusal: Refusal | null = null) => {
    if (closed) return;
    closed = true;
    connecting.abort();
    open?.call.cancel();
    open?.client.close();
    options.onClose(reason, refusal);
  };
  const broke = async (text: string) => {
    const mayBeTls = !options.tls && !heard && !closed;
    const error = mayBeTls ? await tlsMismatch(options, text) : null;
    if (error) close(error.message, refusalOf(error));
    else close(plainReason(text));
  };
  const start = (channel: ChannelCredentials, key: HeadKey | undefined) => {
    const client = new Client(
      target(options.dialAt ?? options.head),
      channel,
      channelOptions(options),
    );
    const call = openStream(client, options.service, key);
    open = { client, call };
    call.on("data", (message: HeadMessage | UnknownMessage) => {
      heard = true;
      if (!closed) options.onMessage(message);
    });
    call.on("error", (error) => void broke(messageOf(error)));
    call.on("end", () => {
      // A failure ends the stream as well; its status, which comes next, says more.
      if (heard) close("the head ended the session");
    });
    call.on("status", (status) => {
      if (status.code === 0) close("the head ended the session");
      else void broke(status.details);
    });
    for (const message of early.splice(0)) call.write(message);
  };
  const startVerified = async () => {
    try {
      const certificate = await verify(options, connecting.signal);
      if (closed) return;
      options.onVerified?.(certificate);
      const key = options.keys.find(({ fingerprint }) => fingerprint === certificate.fingerprint);
      start(credentials.createSsl(Buffer.from(certificate.pem)), key);
    } catch (error) {
      const isAnswer = error instanceof LlmnodeError && error.code !== "head_unreachable";
      close(messageOf(error), isAnswer ? refusalOf(error) : null);
    }
  };

  if (options.tls && options.keys.length === 0) {
    queueMicrotask(() => close("there is no join token yet to recognize the head by"));
  } else if (options.tls) void startVerified();
  else start(credentials.createInsecure(), options.keys[0]);
  return {
    // Before, grpc-js says where it wants to go.
    reached: () => (heard && open ? peerHost(open.call.getPeer()) : null),
    send(message) {
      if (closed) return false;
      if (open) return open.call.write(message);
      early.push(message);
      return true;
    },
    end() {
      if (open) open.call.end();
      else close("ended before it was connected");
    },
    drop: close,
  };
}

/** A TLS server just hangs up on plain text: the difference is worth a second try. */
async function tlsMismatch(
  { head, dialAt }: DialOptions,
  reason: string,
): Promise<LlmnodeError | null> {
  if (!/Failed to connect|ECONNRESET/.test(reason)) return null;
  if (!(await speaksTls(dialAt ?? head, TLS_PROBE_MS))) return null;
  const message = `the worker port at ${formatHostPort(head)} speaks TLS`;
  return new LlmnodeError("tls_mismatch", message, { hints: ["leave out --insecure"] });
}

function verify(options: DialOptions, signal: AbortSignal): Promise<HeadCertificate> {
  return verifyHead(options.head, {
    dialAt: options.dialAt,
    fingerprints: options.keys.map(({ fingerprint }) => fingerprint),
    timeoutMs: options.verifyTimeoutMs ?? 5000,
    signal,
  });
}

function openStream(client: Client, service: ServiceDefinition, key: HeadKey | undefined): Call {
  const method = service["Join"];
  if (!method) throw new Error("the service has no Join");
  const metadata = new Metadata();
  if (key?.credential) metadata.set("authorization", `Bearer ${key.credential}`);
  if (key?.joinToken) metadata.set("x-llmnode-join-token", key.joinToken);
  return client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    metadata,
    {},
  );
}

/** Retries, proxies and a shared connection pool would each hide or delay a session's end. */
function channelOptions({ tls }: DialOptions): Record<string, string | number> {
  return {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    // The certificate names no address, and TLS to a bare address would fail.
    ...(tls ? { "grpc.ssl_target_name_override": HEAD_TLS_NAME } : {}),
  };
}

function refusalOf(error: LlmnodeError): Refusal {
  return { code: error.code, reason: error.message, hint: error.hints.join("; "), retry: false };
}

/** grpc-js takes a bare `host:port` as a DNS name, an IPv6 address only with its scheme. */
function target(head: HostPort): string {
  return head.host.includes(":") ? `ipv6:${formatHostPort(head)}` : `dns:${formatHostPort(head)}`;
}
