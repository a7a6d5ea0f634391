/** Lists of IP addresses and ranges, and what is in them. */

import { BlockList, isIP } from "node:net";

/** Throws RangeError for text that is neither an address nor a CIDR range. */
export function blockList(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = "", bits] = range.split("/");
    const version = isIP(address);
    const widest = version === 6 ? 128 : 32;
    const width = bits === undefined ? widest : Number(bits);
    if (version === 0 || !Number.isInteger(width) || width < 0 || width > widest) {
      throw new RangeError(`${range} is not an address or a range such as 10.0.0.0/8`);
    }
    list.addSubnet(address, width, version === 6 ? "ipv6" : "ipv4");
  }
  return list;
}

/** False also for what is no address. */
export function contains(list: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && list.check(address, version === 6 ? "ipv6" : "ipv4");
}
