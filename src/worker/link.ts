/** Keeps a session with the head: dials, says hello, beats, notices silence, dials again. */

import type { HeadCertificate } from "../protocol/pin.ts";
import { loadService } from "../protocol/schema.ts";
import {
  type ClientSession,
  dial,
  type DialOptions,
  type HeadKey,
} from "../protocol/session-client.ts";
import type {
  HeadMessage,
  Heartbeat,
  Hello,
  Refusal,
  UnknownMessage,
  Welcome,
  WorkerMessage,
} from "../protocol/messages.ts";
import { formatHostPort } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";

export interface LinkOptions extends Pick<DialOptions, "head" | "dialAt" | "tls" | "onMessage"> {
  /** A better reason why the head could not be reached, if one is known. */
  explain?: () => string | null;
  /** The heads that are trusted and what they are shown; read for each dial. */
  keys: () => readonly HeadKey[];
  /** Called before each hello to a head whose key is trusted. */
  onVerified: (certificate: HeadCertificate) => void;
  /** The hello of the session with this epoch. */
  hello: (epoch: number) => Hello;
  /** What a new session sends after its welcome; `reached` is the head's address. */
  announce: (welcome: Welcome, reached: string | null) => WorkerMessage[];
  /** What the next heartbeat carries; asked once for each. */
  vitals?: () => Omit<Heartbeat, "sequence">;
  onRefusal: (refusal: Refusal) => void;
  log: Log;
  random: () => number;
  settings?: Partial<LinkSettings>;
}

export const LINK_DEFAULTS = {
  /** How long a dial may take until the head's welcome. */
  welcomeTimeoutMs: 5000,
  reconnectFirstMs: 500,
  reconnectMaxMs: 5000,
  /** A session of this length resets the reconnect delays. */
  reconnectResetMs: 30_000,
  /** How long until a worker tries again that was refused for good. */
  refusedRetryMs: 30_000,
  /** How often the log repeats that the head cannot be reached. */
  repeatLogMs: 60_000,
};

export type LinkSettings = typeof LINK_DEFAULTS;

/** Limits of what a head may ask for. */
const MIN_HEARTBEAT_MS = 50;
const MAX_HEARTBEAT_MS = 60_000;

export interface Link extends AsyncDisposable {
  readonly connected: boolean;
  /** Of the head that was talked to last: what lanes to it may trust. Null without TLS. */
  readonly certificate: HeadCertificate | null;
  /** Sends if there is a session; what is lost is sent again by the next session's announce. */
  send(message: WorkerMessage): void;
  /** Sends a heartbeat now; returns its sequence, 0 without a session. */
  beat(): number;
}

export function startLink(options: LinkOptions): Link {
  const settings = { ...LINK_DEFAULTS, ...options.settings };
  const service = loadService();
  const outage = createOutageLog(options, settings.repeatLogMs);
  let session: LinkSession | null = null;
  let certificate: HeadCertificate | null = null;
  let epoch = 0;
  let failures = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let closed: PromiseWithResolvers<void> | null = null;

  const connect = () => {
    epoch += 1;
    session = openSession(options, {
      settings,
      service,
      epoch,
      onVerified(verified) {
        certificate = verified;
        options.onVerified(verified);
      },
      onWelcome: outage.over,
      onEnd,
    });
  };
  const onEnd = ({ reason, refused, upMs }: SessionEnd) => {
    session = null;
    if (closed) return closed.resolve();
    if (upMs !== null && upMs >= settings.reconnectResetMs) failures = 0;
    const cap = Math.min(settings.reconnectMaxMs, settings.reconnectFirstMs * 2 ** failures);
    failures = Math.min(failures + 1, 30);
    const isFinal = refused !== null && !refused.retry;
    retry = setTimeout(connect, isFinal ? settings.refusedRetryMs : options.random() * cap);
    if (!refused) outage.report(upMs !== null, options.explain?.() ?? reason);
  };

  connect();
  return {
    get connected() {
      return session?.isUp() ?? false;
    },
    get certificate() {
      return certificate;
    },
    send: (message) => session?.isUp() && session.send(message),
    beat: () => session?.beat() ?? 0,
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

interface SessionOptions {
  settings: LinkSettings;
  service: ReturnType<typeof loadService>;
  epoch: number;
  onVerified: (certificate: HeadCertificate) => void;
  onWelcome: () => void;
  onEnd: (end: SessionEnd) => void;
}

interface SessionEnd {
  reason: string;
  /** By the head, in this session; null: the connection broke or was ended. */
  refused: Refusal | null;
  /** How long it lasted after the head's welcome; null: it never came to that. */
  upMs: number | null;
}

interface LinkSession extends Pick<ClientSession, "end" | "drop"> {
  /** Whether the head has let it in. */
  isUp(): boolean;
  send(message: WorkerMessage): void;
  /** Sends a heartbeat; returns its sequence, 0 before the welcome. */
  beat(): number;
}

/** One session from its dial to its end: hello, welcome, heartbeats, and a watch for silence. */
function openSession(link: LinkOptions, options: SessionOptions): LinkSession {
  const { settings } = options;
  let welcome: Welcome | null = null;
  let refused: Refusal | null = null;
  let sequence = 0;
  let upSince = 0;

  const onMessage = (message: HeadMessage | UnknownMessage) => {
    silence.heard();
    if (message.message === "welcome") {
      // One is enough: a second one would start everything twice.
      if (!welcome) onWelcome(message.welcome);
    } else if (message.message === "refusal") onRefusal(message.refusal);
    else {
      if (message.message === "heartbeatAck" && welcome) {
        const { heartbeatIntervalMs } = message.heartbeatAck;
        if (heartbeatIntervalMs > 0 && beats.every(heartbeatIntervalMs)) silence.check();
      }
      link.onMessage(message);
    }
  };
  const onRefusal = (refusal: Refusal) => {
    refused = refusal;
    link.onRefusal(refusal);
  };
  const onWelcome = (given: Welcome) => {
    welcome = given;
    upSince = performance.now();
    options.onWelcome();
    const head_version = cleanLine(given.version, 64);
    link.log.info("joined", { head: formatHostPort(link.head), name: given.name, head_version });
    for (const message of link.announce(given, client.reached())) client.send(message);
    beat();
    beats.every(given.heartbeatIntervalMs);
    silence.check();
  };
  const beat = () => {
    if (!welcome) return 0;
    sequence += 1;
    client.send({ message: "heartbeat", heartbeat: { ...link.vitals?.(), sequence } });
    return sequence;
  };
  const beats = createInterval(beat);
  const silence = createSilence({
    limitMs: () => (welcome ? patienceMs(welcome, beats.intervalMs()) : settings.welcomeTimeoutMs),
    onOver(silentMs) {
      const what = welcome ? "heard nothing" : "no answer";
      client.drop(`${what} for ${formatDuration(silentMs)}`);
    },
  });
  const onClose = (reason: string, refusal: Refusal | null) => {
    beats.stop();
    silence.stop();
    if (refusal) onRefusal(refusal);
    const upMs = welcome && performance.now() - upSince;
    welcome = null;
    options.onEnd({ reason, refused, upMs });
  };

  const client = dial({
    service: options.service,
    head: link.head,
    ...(link.dialAt === undefined ? {} : { dialAt: link.dialAt }),
    tls: link.tls,
    keys: link.keys(),
    verifyTimeoutMs: settings.welcomeTimeoutMs,
    onMessage,
    onClose,
    onVerified: options.onVerified,
  });
  client.send({ message: "hello", hello: link.hello(options.epoch) });
  silence.check();
  return {
    isUp: () => welcome !== null,
    send: client.send,
    beat,
    end: client.end,
    drop: client.drop,
  };
}

/** Calls `beat` at the pace that the head asks for, within limits; 0: not at all. */
function createInterval(beat: () => void) {
  let timer: ReturnType<typeof setInterval> | undefined;
  let intervalMs = 0;
  return {
    intervalMs: () => intervalMs,
    /** Returns whether that is another pace than before. */
    every(wantedMs: number): boolean {
      const everyMs = Math.min(MAX_HEARTBEAT_MS, Math.max(MIN_HEARTBEAT_MS, wantedMs));
      if (everyMs === intervalMs) return false;
      intervalMs = everyMs;
      clearInterval(timer);
      timer = setInterval(beat, everyMs);
      return true;
    },
    stop: () => clearInterval(timer),
  };
}

/** Calls `onOver` once nothing was heard for the limit; `check` is for when that has changed. */
function createSilence(options: { limitMs: () => number; onOver: (silentMs: number) => void }) {
  let heardAt = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const check = () => {
    clearTimeout(timer);
    const silentMs = performance.now() - heardAt;
    const leftMs = options.limitMs() - silentMs;
    // To the moment when it would be over, and not again before: what is heard costs no timer.
    if (leftMs > 0) timer = setTimeout(check, Math.ceil(leftMs));
    else options.onOver(silentMs);
  };
  return {
    heard() {
      heardAt = performance.now();
    },
    check,
    stop: () => clearTimeout(timer),
  };
}

/** A head that has fewer beats sent answers as much more rarely. */
function patienceMs({ staleAfterMs, heartbeatIntervalMs }: Welcome, beatMs: number): number {
  return staleAfterMs * Math.max(1, beatMs / Math.max(1, heartbeatIntervalMs));
}

/** Says once what keeps us from the head, and again from time to time while that lasts. */
function createOutageLog({ head, log }: LinkOptions, repeatMs: number) {
  let last = { reason: "", at: Number.NEGATIVE_INFINITY };
  return {
    over() {
      last = { reason: "", at: Number.NEGATIVE_INFINITY };
    },
    report(wasUp: boolean, reason: string) {
      const now = performance.now();
      if (!wasUp && reason === last.reason && now - last.at < repeatMs) return;
      last = { reason, at: now };
      const what = `${wasUp ? "lost the head" : "cannot reach the head"} at ${formatHostPort(head)}`;
      log.warn(`${what}: ${cleanLine(reason, 300)}; retrying, the engine keeps running`);
    },
  };
}
