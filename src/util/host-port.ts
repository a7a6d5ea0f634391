/** Addresses as people write them: `host`, `host:port`, `[v6]:port`, `:port`; URLs of HTTP proxies. */

export interface HostPort {
  /** A name or an address, IPv6 without brackets. */
  host: string;
  port: number;
}

/**
 * Reads an address; what is missing comes from `fallback`. Returns null when it is none: an empty
 * host without fallback, a port outside 0..65535, a scheme, a path, a bare IPv6 address with a
 * port that cannot be told apart.
 */
export function parseHostPort(
  text: string,
  fallback: { host?: string; port: number },
): HostPort | null {
  const bracketed = /^\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\](?::(\d{1,5}))?$/.exec(text);
  if (bracketed) return complete(bracketed[1], bracketed[2], fallback);
  // IPv6 without brackets: two colons at least. Headers bring texts of any length here.
  if (/^[0-9a-fA-F:.]+$/.test(text) && text.indexOf(":") !== text.lastIndexOf(":")) {
    return complete(text, undefined, fallback);
  }
  const plain = /^([A-Za-z0-9_.-]*)(?::(\d{1,5}))?$/.exec(text);
  return plain ? complete(plain[1], plain[2], fallback) : null;
}

/** The form that goes into a URL or an error: IPv6 in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Whether an address can only be reached from this machine. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "").replace(/^::ffff:/i, "");
  return bare === "localhost" || bare === "::1" || /^127\.\d+\.\d+\.\d+$/.test(bare);
}

function complete(
  host: string | undefined,
  port: string | undefined,
  fallback: { host?: string; port: number },
): HostPort | null {
  const name = host || fallback.host;
  const number = port === undefined ? fallback.port : Number(port);
  return name && number <= 65535 ? { host: name, port: number } : null;
}

/** The host of `127.0.0.1:5000`, `[::1]:5000` and `::1:5000`. */
export function peerHost(peer: string): string {
  return plainAddress(peer.replace(/:\d+$/, "").replace(/^\[|\]$/g, ""));
}

/** IPv4 in its usual form, also where it came to an IPv6 socket. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}

/**
 * `http://host:port` or `https://...`, with `user:password@` if need be; a bare `host:port` means
 * http. Null for anything else, SOCKS proxies included.
 */
export function parseProxyUrl(text: string): URL | null {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  if (url === null || url.hostname === "") return null;
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  if (`${url.pathname}${url.search}${url.hash}` !== "/") return null;
  return isDecodable(url.username) && isDecodable(url.password) ? url : null;
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

/** For logs and messages: without the password. */
export function shownProxy(url: URL): string {
  const hidden = url.username !== "" || url.password !== "" ? "***@" : "";
  return `${url.protocol}//${hidden}${url.host}`;
}
