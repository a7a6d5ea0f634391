import { expect, test } from "bun:test";
import { formatHostPort, isLoopback, parseHostPort } from "../../src/util/host-port.ts";

const cases: Array<[string, string | null]> = [
  ["10.0.0.5", "10.0.0.5:8093"],
  ["10.0.0.5:9000", "10.0.0.5:9000"],
  ["head-1.lan:1", "head-1.lan:1"],
  [":9000", "0.0.0.0:9000"],
  ["", "0.0.0.0:8093"],
  ["[::1]:9000", "[::1]:9000"],
  ["[::1]", "[::1]:8093"],
  ["::1", "[::1]:8093"],
  ["fe80::1%eth0", null],
  ["[fe80::1%eth0]:7", "[fe80::1%eth0]:7"],
  ["host:65536", null],
  ["host:", null],
  ["http://host", null],
  ["host/path", null],
  ["host:12:34", null],
  ["a b", null],
];

test.each(cases)("address %p is %p", (text, expected) => {
  const parsed = parseHostPort(text, { host: "0.0.0.0", port: 8093 });
  expect(parsed && formatHostPort(parsed)).toBe(expected);
});

test("an address without a host needs a fallback", () => {
  expect(parseHostPort(":1", { port: 1 })).toBeNull();
});

test("loopback is told from the rest", () => {
  for (const host of ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"]) {
    expect([host, isLoopback(host)]).toEqual([host, true]);
  }
  for (const host of ["10.0.0.1", "0.0.0.0", "::", "127.example.com", "example.com"]) {
    expect([host, isLoopback(host)]).toEqual([host, false]);
  }
});

test("a text of any length is told at once to be no address", () => {
  expect(parseHostPort(`${":".repeat(20_000)}x`, { port: 1 })).toBeNull();
});
