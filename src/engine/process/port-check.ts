/** Refuses to start an engine on a port where another program already answers. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { formatHostPort } from "../../util/host-port.ts";
import { probeTcp } from "../../util/tcp.ts";
import { portOwner, reachableHosts, type PortOwner } from "./network.ts";

/**
 * Throws LlmnodeError `port_in_use`, with the owner where the system tells, if something accepts
 * connections on `port` at 127.0.0.1 or at the host that the command names: the engine could not
 * have it, and the other program's answers would be taken for the engine's.
 */
export async function refuseTakenPort(
  port: number,
  options: { host: string | null; engineId: string; timeoutMs: number },
): Promise<void> {
  for (const host of new Set(["127.0.0.1", ...reachableHosts(options.host)])) {
    if ((await probeTcp({ host, port }, options.timeoutMs)) !== null) continue;
    const owner = await portOwner(port);
    const by = owner === null ? "another program" : describeOwner(owner, options.engineId);
    const url = `http://${formatHostPort({ host, port })}`;
    const hints = [
      "give the engine another port, or say with --port which one it will use",
      `to serve what already runs there: --attach ${url}`,
    ];
    if (owner !== null) hints.push(`to end what runs there: kill ${owner.pid}`);
    throw new LlmnodeError("port_in_use", `port ${port} is already in use by ${by}`, { hints });
  }
}

function describeOwner({ pid, name, engineId }: PortOwner, ownId: string): string {
  const program = `${name} (pid ${pid})`;
  if (engineId === null) return program;
  if (engineId === ownId) return `${program}, left over from an earlier run of this worker`;
  return `${program}, the engine of worker ${engineId}`;
}
