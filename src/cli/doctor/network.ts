/** Whether the head's name leads to an address, and whether its ports accept connections. */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { systemCode } from "../../protocol/errors.ts";
import { formatHostPort, type HostPort } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import { probeTcp } from "../../util/tcp.ts";
import { type Check, failed, ok } from "./check.ts";

export async function checkName(host: string, timeoutMs: number): Promise<Check> {
  const name = "name";
  if (isIP(host) !== 0) return ok(name, `${host} is an address`);
  const done = new AbortController();
  try {
    const found = await Promise.race([
      lookup(host, { all: true }),
      sleep(timeoutMs, done.signal).then(() => null),
    ]);
    const hint = "is the name server reachable? try with the head's address instead of its name";
    if (found === null) return failed(name, `${host}: the name server does not answer`, hint);
    return ok(name, `${host} is ${found.map(({ address }) => address).join(", ")}`);
  } catch (error) {
    return failed(
      name,
      `${host} cannot be resolved (${systemCode(error) ?? "no reason given"})`,
      "is it spelled right? try with the head's address instead of its name",
    );
  } finally {
    done.abort();
  }
}

export interface Port {
  name: string;
  address: HostPort;
  hint: string;
}

export async function checkPort({ name, address, hint }: Port, timeoutMs: number): Promise<Check> {
  const at = formatHostPort(address);
  const reason = await probeTcp(address, timeoutMs);
  return reason === null
    ? ok(name, `${at} accepts connections`)
    : failed(name, `${at}: ${reason}`, hint);
}
