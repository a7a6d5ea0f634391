/** Where a request comes from: the peer, or what a trusted proxy says; and which addresses are near. */

import { type BlockList, isIP } from "node:net";
import { blockList, contains } from "../../util/address-ranges.ts";
import { parseHostPort } from "../../util/host-port.ts";

/** Headers by which proxies say for whom they ask. */
const FORWARDING = ["forwarded", "x-forwarded-for", "x-real-ip", "via"] as const;
/** No chain of proxies is longer; what is before that is not looked at. */
const MAX_HOPS = 32;

/** Whether a proxy says that it stands in between; a client can leave that out. */
export function isForwarded(headers: Headers): boolean {
  return FORWARDING.some((name) => headers.has(name));
}

/**
 * The client's address: the last one of `x-forwarded-for` that is no trusted proxy's, if the peer is
 * one; else the peer's, whatever headers say. IPv4 addresses in IPv6's form are told in their own.
 */
export function clientAddress(peer: string, headers: Headers, trusted: BlockList | null): string {
  let address = plainAddress(peer);
  if (trusted === null || !contains(trusted, address)) return address;
  const hops = (headers.get("x-forwarded-for") ?? "").split(",").slice(-MAX_HOPS);
  for (const hop of hops.reverse()) {
    const next = addressIn(hop.trim());
    // What stands before something unreadable may be anyone's word.
    if (next === null) return address;
    address = next;
    if (!contains(trusted, address)) return address;
  }
  return address;
}

/** Whether a trusted proxy says that the client came to it by TLS. */
export function isForwardedByTls(
  peer: string,
  headers: Headers,
  trusted: BlockList | null,
): boolean {
  if (trusted === null || !contains(trusted, plainAddress(peer))) return false;
  return headers.get("x-forwarded-proto")?.split(",").at(-1)?.trim().toLowerCase() === "https";
}

/** An address without a zone, and not in IPv6's form for IPv4. */
export function plainAddress(address: string): string {
  if (!address.includes(":")) return address;
  const bare = address.replace(/%.*$/, "");
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1] ?? bare;
}

/** `10.0.0.1`, `10.0.0.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`; null for anything else. */
function addressIn(text: string): string | null {
  const host = isIP(text) === 0 ? parseHostPort(text, { port: 0 })?.host : text;
  return host !== undefined && isIP(host) !== 0 ? plainAddress(host) : null;
}

/**
 * Whether an address is of this machine or of a network that the world does not reach: loopback,
 * private (RFC 1918, RFC 4193), shared (RFC 6598), link-local (RFC 3927, RFC 4291).
 */
export function isNearby(address: string): boolean {
  // What nearly all clients of a head behind a proxy or on one machine have.
  return address === "127.0.0.1" || contains(NEARBY, plainAddress(address));
}

const NEARBY = blockList([
  "127.0.0.0/8",
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "169.254.0.0/16",
  "::1/128",
  "fc00::/7",
  "fe80::/10",
]);

/** By what failures are counted: one network of IPv6 (/64) belongs to one client. */
export function networkOf(address: string): string {
  const plain = plainAddress(address);
  if (isIP(plain) !== 6) return plain;
  const [before = "", after = ""] = plain.split("::", 2);
  const head = before === "" ? [] : before.split(":");
  const tail = after === "" ? [] : after.split(":");
  const zeros = plain.includes("::") ? Math.max(0, 8 - head.length - tail.length) : 0;
  const groups = [...head, ...Array.from({ length: zeros }, () => "0"), ...tail];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
