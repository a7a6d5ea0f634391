/** Addresses of HTTP proxies as people and environments write them. */

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

/** For logs and messages: without what lets one in. */
export function shownProxy(url: URL): string {
  const hidden = url.username !== "" || url.password !== "" ? "***@" : "";
  return `${url.protocol}//${hidden}${url.host}`;
}
