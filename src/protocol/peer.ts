/** Reads the addresses of peers as grpc-js and the system write them. */

/** The host of `127.0.0.1:5000`, `[::1]:5000` and `::1:5000`. */
export function peerHost(peer: string): string {
  return plainAddress(peer.replace(/:\d+$/, "").replace(/^\[|\]$/g, ""));
}

/** IPv4 in its usual form, also where it came to an IPv6 socket. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}
