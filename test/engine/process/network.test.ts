import { expect, test } from "bun:test";
import {
  isLoopbackOnly,
  ownAddresses,
  portOwner,
  portsOf,
  reachableHosts,
} from "../../../src/engine/process/network.ts";
import { freePort } from "../../helpers/free-port.ts";

const entry = (address: string, family: "IPv4" | "IPv6", internal = false) => {
  const common = { address, netmask: "", mac: "", internal, cidr: null };
  return family === "IPv4" ? { ...common, family } : { ...common, family, scopeid: 0 };
};

test("own addresses: IPv4 first, neither loopback nor link-local, at most four", () => {
  const addresses = ownAddresses({
    lo: [entry("127.0.0.1", "IPv4", true), entry("::1", "IPv6", true)],
    eth0: [entry("fd00::1", "IPv6"), entry("10.0.0.1", "IPv4"), entry("fe80::1", "IPv6")],
    eth1: [entry("10.0.1.1", "IPv4"), entry("10.0.2.1", "IPv4"), entry("fd00::2", "IPv6")],
  });
  expect(addresses).toEqual(["10.0.0.1", "10.0.1.1", "10.0.2.1", "fd00::1"]);
  expect(ownAddresses({})).toEqual([]);
});

test("whether only this machine can reach it is found out by trying", async () => {
  // 127.0.0.2 stands in for another address of this machine.
  await using narrow = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  await using wide = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data() {} } });
  const ask = (port: number, addresses: string[]) =>
    isLoopbackOnly("127.0.0.1", port, { addresses, timeoutMs: 1_000 });
  expect(await ask(narrow.port, ["127.0.0.2"])).toBe(true);
  expect(await ask(wide.port, ["127.0.0.2"])).toBe(false);
  expect(await ask(wide.port, [])).toBeNull();
  expect(await isLoopbackOnly("10.0.0.1", 1, { addresses: [], timeoutMs: 1_000 })).toBe(false);
});

test("the owner of a port is found, and the ports of a process", async () => {
  await using socket = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  expect(await portOwner(socket.port)).toMatchObject({ pid: process.pid });
  expect(await portsOf([process.pid])).toContain(socket.port);
  expect(await portOwner(freePort())).toBeNull();
  expect(await portsOf([])).toEqual([]);
});

test("where an engine is reached that listens there", () => {
  for (const host of [null, "", "0.0.0.0", "::", "[::]", "localhost", "*"]) {
    expect(reachableHosts(host)).toEqual(["127.0.0.1", "::1"]);
  }
  expect(reachableHosts("10.0.0.1")).toEqual(["10.0.0.1"]);
  expect(reachableHosts("[::1]")).toEqual(["::1"]);
});
