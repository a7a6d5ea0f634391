/** Carries the link through an HTTP proxy: a relay on this machine asks it for each connection. */

import net from "node:net";
import tls from "node:tls";
import { messageOf } from "../protocol/errors.ts";
import { plainReason } from "../protocol/pin.ts";
import { formatHostPort, type HostPort, shownProxy } from "../util/host-port.ts";
import { cleanLine } from "../util/text.ts";

export interface ViaProxyOptions {
  /** As `parseProxyUrl` reads it; its credentials are sent to the proxy only. */
  proxy: URL;
  settings?: Partial<ViaProxySettings>;
}

export const VIA_PROXY_DEFAULTS = {
  /**
   * How long the proxy may take to open a connection. Less than the link waits for the head's welcome, so
   * that the reason is known by then.
   */
  connectTimeoutMs: 4000,
  /** Connections at a time; further ones are closed at once. */
  // Every lane of a worker twice over, and the session.
  maxConnections: 1100,
};

export type ViaProxySettings = typeof VIA_PROXY_DEFAULTS;

/** Connections to one address through the proxy. */
export interface Passage {
  /** Where on this machine connections are taken that come out at the other end. */
  readonly address: HostPort;
  /** Why the last connection came to nothing, in words; null once one was answered. */
  problem(): string | null;
}

export interface ViaProxy extends AsyncDisposable {
  /**
   * The same passage each time for the same address. What goes through is not inspected: TLS and the
   * head's key are between the two ends, as without a proxy. `onProblem` is called when the problem
   * is another one than before.
   */
  to(target: HostPort, onProblem?: (problem: string) => void): Passage;
}

/** The head of a proxy's answer is some hundred bytes. */
const MAX_ANSWER_BYTES = 16 * 1024;

type Socket = net.Socket;

export function startViaProxy(options: ViaProxyOptions): ViaProxy {
  const settings = { ...VIA_PROXY_DEFAULTS, ...options.settings };
  const passages = new Map<string, Passage>();
  const servers: net.Server[] = [];
  const sockets = new Set<Socket>();

  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  };
  const open = (target: HostPort, onProblem?: (problem: string) => void): Passage => {
    let problem: string | null = null;
    const set = (text: string | null) => {
      const isNew = text !== null && text !== problem;
      problem = text;
      if (isNew) onProblem?.(text);
    };
    const server = net.createServer((local) => {
      if (sockets.size >= 2 * settings.maxConnections) return void local.destroy();
      const upstream = dialProxy(options.proxy);
      keep(local);
      keep(upstream);
      carry({ local, upstream, target, set, proxy: options.proxy, settings });
    });
    server.on("error", (error) => set(`the connection to the proxy broke: ${messageOf(error)}`));
    // For a literal address the port is there when this returns.
    server.listen(0, "127.0.0.1");
    servers.push(server);
    const bound = server.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : 0;
    return { address: { host: "127.0.0.1", port }, problem: () => problem };
  };
  return {
    to(target, onProblem) {
      const key = formatHostPort(target);
      const passage = passages.get(key) ?? open(target, onProblem);
      passages.set(key, passage);
      return passage;
    },
    async [Symbol.asyncDispose]() {
      const closed = servers.splice(0).map((server) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        server.close(() => resolve());
        return promise;
      });
      for (const socket of sockets) socket.destroy();
      await Promise.all(closed);
    },
  };
}

function dialProxy(proxy: URL): Socket {
  const host = proxy.hostname.replace(/^\[|\]$/g, "");
  const isTls = proxy.protocol === "https:";
  const port = Number(proxy.port) || (isTls ? 443 : 80);
  if (!isTls) return net.connect({ host, port });
  return tls.connect({ host, port, ...(net.isIP(host) === 0 ? { servername: host } : {}) });
}

interface Carried {
  local: Socket;
  upstream: Socket;
  target: HostPort;
  proxy: URL;
  settings: ViaProxySettings;
  /** Null: no problem any more. */
  set: (problem: string | null) => void;
}

/** One connection: CONNECT, then bytes both ways at the pace of the slower side. */
function carry({ local, upstream, target, proxy, settings, set }: Carried): void {
  const at = shownProxy(proxy);
  const to = formatHostPort(target);
  let answer = Buffer.alloc(0);
  let isOpen = false;
  let isAnswered = false;

  const end = (problem: string | null) => {
    clearTimeout(timer);
    if (problem !== null) set(cleanLine(problem, 300));
    local.destroy();
    upstream.destroy();
  };
  const timer = setTimeout(() => end(`the proxy ${at} does not answer`), settings.connectTimeoutMs);
  const onAnswer = (chunk: Buffer) => {
    answer = Buffer.concat([answer, chunk]);
    const length = answer.indexOf("\r\n\r\n");
    if (length === -1 && answer.length <= MAX_ANSWER_BYTES) return;
    const problem = length === -1 ? `${at} does not answer like an HTTP proxy` : refusal(answer);
    if (problem !== null) return end(problem);
    clearTimeout(timer);
    isOpen = true;
    upstream.off("data", onAnswer);
    upstream.once("data", () => {
      isAnswered = true;
      set(null);
    });
    upstream.pipe(local);
    local.pipe(upstream);
    const rest = answer.subarray(length + 4);
    if (rest.length > 0) upstream.unshift(rest);
  };
  const refusal = (text: Buffer): string | null => {
    const line = text.toString("latin1", 0, Math.max(0, text.indexOf("\r\n")));
    const match = /^HTTP\/1\.[01] (\d{3})(.*)$/.exec(line);
    if (!match) return `${at} does not answer like an HTTP proxy`;
    const status = Number(match[1]);
    if (status >= 200 && status < 300) return null;
    const answered = `${status}${cleanLine(match[2] ?? "", 100)}`;
    if (status === 407) {
      const what = proxy.username === "" ? "wants credentials" : "does not accept the credentials";
      return `the proxy ${at} ${what} (${answered}): --via-proxy http://<user>:<password>@<host>:<port>`;
    }
    return `the proxy ${at} refuses a connection to ${to} (${answered})`;
  };
  // What was sent still arrives, at a side that reads it.
  const finish = (socket: Socket) => {
    socket.end();
    socket.setTimeout(settings.connectTimeoutMs, () => socket.destroy());
  };
  const lost = () => {
    if (isAnswered || local.destroyed) return finish(local);
    end(
      isOpen
        ? `the proxy ${at} closed its connection to ${to} before anything came back`
        : `the proxy ${at} closed the connection`,
    );
  };

  upstream.on(proxy.protocol === "https:" ? "secureConnect" : "connect", () => {
    upstream.write(connectRequest(proxy, to));
  });
  upstream.on("data", onAnswer);
  upstream.on("error", (error) => {
    if (isOpen) lost();
    else end(`cannot reach the proxy ${at}: ${plainReason(messageOf(error))}`);
  });
  upstream.on("close", lost);
  local.on("error", () => end(null));
  local.on("close", () => {
    if (isOpen) finish(upstream);
    else end(null);
  });
}

function connectRequest(proxy: URL, to: string): string {
  const { username, password } = proxy;
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const shown =
    username === "" && password === ""
      ? ""
      : `Proxy-Authorization: Basic ${Buffer.from(credentials).toString("base64")}\r\n`;
  return `CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n${shown}\r\n`;
}
