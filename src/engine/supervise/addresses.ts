/** Knows where an engine may answer: by its user's words, by what it prints, by its sockets. */

import type { HostPort } from "../../util/host-port.ts";
import { portsOf, reachableHosts } from "../process/network.ts";
import type { PreparedEngine } from "./prepare.ts";
import type { EngineRun } from "./run.ts";

/** Most ports of an unknown program that are asked. */
const MAX_PORTS = 8;

/**
 * Where a run may answer, most likely first: named in words or flags, else as its container tells,
 * else printed, else usual, else looked up.
 */
export async function addressesOf(run: EngineRun, engine: PreparedEngine): Promise<HostPort[]> {
  const { argvFacts, rules, port: usual } = engine;
  const at = (host: string | null, number: number): HostPort[] =>
    reachableHosts(host).map((name) => ({ host: name, port: number }));
  const named = rules.port ?? argvFacts.port;
  if (named !== null && named !== 0) return at(argvFacts.host, named);
  if (run.launched.addresses) return run.launched.addresses();
  const printed = run.printedAddress();
  if (printed !== null) return at(printed.host, printed.port);
  if (usual !== null) return at(argvFacts.host, usual);
  if (argvFacts.kind !== "generic") return [];
  const processes = await run.launched.tree.refresh();
  const ports = await portsOf(processes.map((entry) => entry.pid));
  return ports.slice(0, MAX_PORTS).flatMap((number) => at(argvFacts.host, number));
}
