/** Keeps a session with the head: dials, says hello, beats, notices silence, dials again. */

import type { HeadCertificate } from "../protocol/pin.ts";
import { loadService } from "../protocol/schema.ts";
import { type ClientSession, dial, type HeadKey } from "../protocol/session-client.ts";
import type {
  HeadMessage,
  Heartbeat,
  HeartbeatAck,
  Hello,
  Refusal,
  UnknownMessage,
  Welcome,
  WorkerMessage,
} from "../protocol/messages.ts";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";

export interface LinkOptions {
  head: HostPort;
  /** Where to connect instead, such as a relay to the head; messages speak of the head. */
  dialAt?: HostPort;
  /** Says more of why the head could not be reached, if there is more to say. */
  explain?: () => string | null;
  /** Without TLS, whoever answers is believed and told everything. */
  tls: boolean;
  /** The heads that are trusted and what they are shown; asked anew for each dial. */
  keys: () => readonly HeadKey[];
  /** Called before each hello to a head whose key is trusted. */
  onVerified: (certificate: HeadCertificate) => void;
  /** The hello of the session with this epoch. */
  hello: (epoch: number) => Hello;
  /** What a new session is told after its welcome; `reached` is the head's address. */
  announce: (welcome: Welcome, reached: string | null) => WorkerMessage[];
  /** What the next heartbeat carries; asked once for each. */
  vitals?: () => Omit<Heartbeat, "sequence">;
  onMessage: (message: HeadMessage | UnknownMessage) => void;
  onRefusal: (refusal: Refusal) => void;
  log: Log;
  random: () => number;
  settings?: Partial<LinkSettings>;
}

export interface LinkSettings {
  /** How long a dial may take until the head's welcome. */
  welcomeTimeoutMs: number;
  reconnectFirstMs: number;
  reconnectMaxMs: number;
  /** A session of this length starts the reconnect delays anew. */
  reconnectResetMs: number;
  /** How long until a worker tries again that was refused without hope. */
  refusedRetryMs: number;
  /** How often an unreachable head is spoken of again. */
  repeatLogMs: number;
}

export const LINK_DEFAULTS: LinkSettings = {
  welcomeTimeoutMs: 5000,
  reconnectFirstMs: 500,
  reconnectMaxMs: 5000,
  reconnectResetMs: 30_000,
  refusedRetryMs: 30_000,
  repeatLogMs: 60_000,
};

/** Whatever a head says, a worker beats no faster and no more slowly. */
const MIN_HEARTBEAT_MS = 50;
const MAX_HEARTBEAT_MS = 60_000;

export interface Link extends AsyncDisposable {
  readonly connected: boolean;
  /** Of the head that was talked to last: what lanes to it may trust. Null without TLS. */
  readonly certificate: HeadCertificate | null;
  /** Sends if there is a session; what is lost is said again by the next session's announce. */
  send(message: WorkerMessage): void;
  /** Sends a heartbeat now; returns its sequence, 0 without a session. */
  beat(): number;
}

export function startLink(options: LinkOptions): Link {
  const settings = { ...LINK_DEFAULTS, ...options.settings };
  const { log } = options;
  const service = loadService();
  const address = formatHostPort(options.head);
  let session: ClientSession | null = null;
  let welcomed: Welcome | null = null;
  let certificate: HeadCertificate | null = null;
  let epoch = 0;
  let sequence = 0;
  let failures = 0;
  let lastHeardAt = 0;
  let connectedAt = 0;
  let refused: Refusal | null = null;
  let spokenOf = { reason: "", at: Number.NEGATIVE_INFINITY };
  let retry: ReturnType<typeof setTimeout> | undefined;
  let beating: ReturnType<typeof setInterval> | undefined;
  /** Between two beats; 0 without a session. */
  let beatMs = 0;
  let watching: ReturnType<typeof setInterval> | undefined;
  let closed: PromiseWithResolvers<void> | null = null;

  const beat = () => {
    if (!session || !welcomed) return 0;
    sequence += 1;
    session.send({ message: "heartbeat", heartbeat: { ...options.vitals?.(), sequence } });
    return sequence;
  };

  /** A head that has fewer beats sent answers as much more rarely. */
  const patienceMs = ({ staleAfterMs, heartbeatIntervalMs }: Welcome) =>
    staleAfterMs * Math.max(1, beatMs / Math.max(1, heartbeatIntervalMs));

  const connect = () => {
    epoch += 1;
    sequence = 0;
    refused = null;
    lastHeardAt = performance.now();
    session = dial({
      service,
      head: options.head,
      ...(options.dialAt === undefined ? {} : { dialAt: options.dialAt }),
      tls: options.tls,
      keys: options.keys(),
      verifyTimeoutMs: settings.welcomeTimeoutMs,
      onMessage: take,
      onClose: down,
      onVerified(verified) {
        certificate = verified;
        options.onVerified(verified);
      },
    });
    session.send({ message: "hello", hello: options.hello(epoch) });
    const current = session;
    watching = setInterval(() => {
      const silentMs = performance.now() - lastHeardAt;
      if (silentMs < (welcomed ? patienceMs(welcomed) : settings.welcomeTimeoutMs)) return;
      const what = welcomed ? "heard nothing" : "no answer";
      current.drop(`${what} for ${formatDuration(silentMs)}`);
    }, 100);
  };

  const take = (message: HeadMessage | UnknownMessage) => {
    lastHeardAt = performance.now();
    if (message.message === "welcome") {
      // One is enough: a second one would start everything twice.
      if (!welcomed) up(message.welcome);
    } else if (message.message === "refusal") refuse(message.refusal);
    else {
      if (message.message === "heartbeatAck" && welcomed) follow(message.heartbeatAck);
      options.onMessage(message);
    }
  };

  const follow = ({ heartbeatIntervalMs }: HeartbeatAck) => {
    if (heartbeatIntervalMs > 0) beatEvery(heartbeatIntervalMs);
  };

  const refuse = (refusal: Refusal) => {
    refused = refusal;
    options.onRefusal(refusal);
  };

  const up = (welcome: Welcome) => {
    welcomed = welcome;
    connectedAt = performance.now();
    spokenOf = { reason: "", at: Number.NEGATIVE_INFINITY };
    log.info("joined", {
      head: address,
      name: welcome.name,
      head_version: cleanLine(welcome.version, 64),
    });
    const reached = session?.reached() ?? null;
    for (const message of options.announce(welcome, reached)) session?.send(message);
    beat();
    beatEvery(welcome.heartbeatIntervalMs);
  };

  const beatEvery = (wantedMs: number) => {
    const everyMs = Math.min(MAX_HEARTBEAT_MS, Math.max(MIN_HEARTBEAT_MS, wantedMs));
    if (everyMs === beatMs) return;
    beatMs = everyMs;
    clearInterval(beating);
    beating = setInterval(beat, beatMs);
  };

  const down = (reason: string, refusal: Refusal | null) => {
    clearInterval(beating);
    beatMs = 0;
    clearInterval(watching);
    const wasUp = welcomed !== null;
    session = null;
    welcomed = null;
    if (closed) return closed.resolve();
    if (refusal) refuse(refusal);
    if (wasUp && performance.now() - connectedAt >= settings.reconnectResetMs) failures = 0;
    const cap = Math.min(settings.reconnectMaxMs, settings.reconnectFirstMs * 2 ** failures);
    failures = Math.min(failures + 1, 30);
    const hopeless = refused !== null && !refused.retry;
    retry = setTimeout(connect, hopeless ? settings.refusedRetryMs : options.random() * cap);
    if (!refused) speak(wasUp, options.explain?.() ?? reason);
  };

  const speak = (wasUp: boolean, reason: string) => {
    const now = performance.now();
    if (!wasUp && reason === spokenOf.reason && now - spokenOf.at < settings.repeatLogMs) return;
    spokenOf = { reason, at: now };
    const what = wasUp ? "lost the head" : "cannot reach the head";
    log.warn(`${what} at ${address}: ${cleanLine(reason, 300)}; trying again, the engine runs on`);
  };

  connect();
  return {
    get connected() {
      return welcomed !== null;
    },
    get certificate() {
      return certificate;
    },
    send: (message) => void (welcomed && session?.send(message)),
    beat,
    async [Symbol.asyncDispose]() {
      clearTimeout(retry);
      if (!session) return;
      closed ??= Promise.withResolvers<void>();
      session.end();
      // The head answers an end at once; one that does not is not waited for.
      const timer = setTimeout(() => session?.drop("closing"), 1000);
      await closed.promise;
      clearTimeout(timer);
    },
  };
}
