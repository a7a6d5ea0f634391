import { expect, test } from "bun:test";
import { blockList, contains } from "../../src/util/address-ranges.ts";

test("an address is in a list of addresses and ranges, or not", () => {
  const list = blockList(["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
  const known = ["10.1.2.3", "192.0.2.7", "fd12::1"];
  for (const address of known) expect([address, contains(list, address)]).toEqual([address, true]);
  for (const address of ["11.0.0.1", "192.0.2.8", "fe80::1", "localhost", ""]) {
    expect([address, contains(list, address)]).toEqual([address, false]);
  }
});

test.each(["10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/x", "::1/129", "host", ""])(
  "%p is no range",
  (range) => {
    expect(() => blockList([range])).toThrow("is not an address or a range such as 10.0.0.0/8");
  },
);
