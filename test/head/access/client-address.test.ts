import { expect, test } from "bun:test";
import {
  clientAddress,
  isForwarded,
  isForwardedByTls,
  isNearby,
  networkOf,
} from "../../../src/head/access/client-address.ts";
import { blockList } from "../../../src/util/address-ranges.ts";

test.each([
  ["127.0.0.1", true],
  ["127.8.9.10", true],
  ["10.1.2.3", true],
  ["172.16.0.1", true],
  ["172.31.255.255", true],
  ["192.168.7.7", true],
  ["100.64.0.1", true],
  ["100.127.255.255", true],
  ["169.254.1.1", true],
  ["::1", true],
  ["fc00::1", true],
  ["fdab:1234::1", true],
  ["fe80::1", true],
  ["fe80::1%eth0", true],
  ["febf::1", true],
  ["::ffff:10.0.0.1", true],
  ["::FFFF:127.0.0.1", true],
  ["172.15.255.255", false],
  ["172.32.0.1", false],
  ["100.63.255.255", false],
  ["100.128.0.1", false],
  ["192.169.0.1", false],
  ["11.0.0.1", false],
  ["8.8.8.8", false],
  ["::ffff:8.8.8.8", false],
  ["2001:db8::1", false],
  ["fec0::1", false],
  ["::", false],
  ["0.0.0.0", false],
  ["", false],
  ["localhost", false],
])("%p is near: %p", (address, near) => {
  expect(isNearby(address)).toBe(near);
});

const trusted = blockList(["10.0.0.0/8", "127.0.0.1", "fd00::/8"]);

test.each([
  ["no proxy", "192.0.2.1", "203.0.113.9", "192.0.2.1"],
  ["nothing said", "10.0.0.1", null, "10.0.0.1"],
  ["one proxy", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
  ["a forged beginning", "10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"],
  ["two proxies", "10.0.0.1", "203.0.113.9, 10.0.0.7", "203.0.113.9"],
  ["trusted ones only", "10.0.0.1", "10.0.0.9, 10.0.0.7", "10.0.0.9"],
  ["with ports", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
  ["IPv6 with a port", "10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"],
  ["IPv6", "fd00::2", "2001:db8::7", "2001:db8::7"],
  ["a mapped peer", "::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"],
  ["a mapped client", "10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"],
  ["an unreadable end", "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"],
  ["unreadable behind a proxy", "10.0.0.1", "1.2.3.4, _x, 10.0.0.8", "10.0.0.8"],
  ["nothing between commas", "10.0.0.1", "203.0.113.9,", "10.0.0.1"],
  ["a long chain", "10.0.0.1", `1.2.3.4, ${"10.0.0.2, ".repeat(40)}10.0.0.3`, "10.0.0.2"],
])("the client's address: %s", (_, peer, forwarded, address) => {
  const headers = new Headers(forwarded === null ? {} : { "x-forwarded-for": forwarded });
  expect(clientAddress(peer, headers, trusted)).toBe(address);
});

test("without trusted proxies headers change nothing", () => {
  const headers = new Headers({ "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https" });
  expect(clientAddress("10.0.0.1", headers, null)).toBe("10.0.0.1");
  expect(isForwardedByTls("10.0.0.1", headers, null)).toBe(false);
  expect(isForwardedByTls("192.0.2.1", headers, trusted)).toBe(false);
  expect(isForwardedByTls("10.0.0.1", headers, trusted)).toBe(true);
  expect(isForwarded(headers)).toBe(true);
  expect(isForwarded(new Headers({ host: "x" }))).toBe(false);
});

test.each([
  ["203.0.113.9", "203.0.113.9"],
  ["::ffff:203.0.113.9", "203.0.113.9"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
  ["2001:0db8:0001:0002::9", "2001:db8:1:2::/64"],
  ["2001:db8::9", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
])("%p counts as %p", (address, network) => {
  expect(networkOf(address)).toBe(network);
});
