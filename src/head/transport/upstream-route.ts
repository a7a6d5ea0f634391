/** The upstream route of an engine: direct, by which address, or by lane; or why there is none. */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { Engine, Route, Worker } from "../../cluster/state/state.ts";
import { blockList, contains } from "../../util/address-ranges.ts";
import { formatHostPort, type HostPort, isLoopback } from "../../util/host-port.ts";
import { probeTcp } from "../../util/tcp.ts";

/** What makes two processes reach each other on loopback. */
export interface Place {
  bootId: string;
  networkNamespace: string;
}

export interface RouteOptions {
  head: Place;
  /** Addresses outside the worker's own that an advertised URL may lead to. */
  allowAdvertise: readonly string[];
  probeTimeoutMs: number;
}

/**
 * Direct where the head is on the worker's own machine or was given a URL, and it works; else by
 * lane, which needs nothing of the network but what the worker's session needs. Never throws.
 */
export async function resolveRoute(
  options: RouteOptions,
  where: { worker: Worker; engine: Engine },
): Promise<Route> {
  const { worker, engine } = where;
  if (worker.data === "lane") return { via: "lane" };
  const direct = await directRoute(options, where);
  if (direct.via === "direct" || worker.data === "direct") return direct;
  // A URL that does not work is a mistake that must be seen.
  return engine.report.advertise === null ? { via: "lane" } : direct;
}

async function directRoute(
  options: RouteOptions,
  where: { worker: Worker; engine: Engine },
): Promise<Route> {
  const { worker, engine } = where;
  const { port, https, advertise, loopbackOnly } = engine.report;
  const scheme = https ? "https" : "http";
  if (advertise !== null) return await advertisedRoute(options, worker, advertise);
  if (port === null) return unreachable("its port is not known");
  const near = isSamePlace(options.head, worker);
  // Another machine's address may lead to it, but only an operator knows.
  if (!near && worker.data !== "direct") return unreachable("it is on another machine");
  const hosts = near ? ["127.0.0.1", worker.address] : [worker.address];
  let why = "";
  for (const host of new Set(hosts)) {
    const address = { host, port };
    const failed = await probeTcp(address, options.probeTimeoutMs);
    if (failed === null) return { via: "direct", url: `${scheme}://${formatHostPort(address)}` };
    why ||= `${formatHostPort(address)}: ${failed}`;
  }
  if (!near && loopbackOnly === true) {
    return unreachable("the engine listens on loopback only: start it with --host 0.0.0.0");
  }
  return unreachable(`${why} (a firewall, or NAT? leave out --transport direct)`);
}

/** Same boot and network namespace; where neither side has such names, a loopback address. */
export function isSamePlace(head: Place, worker: Worker): boolean {
  const host = worker.host;
  if (head.bootId === "" && (host === null || host.bootId === ""))
    return isLoopback(worker.address);
  return (
    host !== null &&
    host.bootId === head.bootId &&
    host.networkNamespace !== "" &&
    host.networkNamespace === head.networkNamespace
  );
}

async function advertisedRoute(
  options: RouteOptions,
  worker: Worker,
  advertise: string,
): Promise<Route> {
  if (!URL.canParse(advertise)) return unreachable(`${advertise} is not a URL`);
  const url = new URL(advertise);
  if (!/^https?:$/.test(url.protocol))
    return unreachable(`${advertise} is not an http or https URL`);
  const address = addressOf(url);
  const allowed = await isAllowed(options, worker, address.host);
  if (allowed !== true) return unreachable(allowed);
  const failed = await probeTcp(address, options.probeTimeoutMs);
  if (failed !== null) return unreachable(`${formatHostPort(address)}: ${failed}`);
  return { via: "direct", url: url.origin };
}

/** A worker may not make the head call addresses that are not its own. */
async function isAllowed(
  options: RouteOptions,
  worker: Worker,
  host: string,
): Promise<true | string> {
  let addresses: string[];
  try {
    addresses =
      isIP(host) !== 0 ? [host] : (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    return `the name ${host} cannot be resolved at the head`;
  }
  const list = blockList([...options.allowAdvertise, worker.address]);
  const near = isSamePlace(options.head, worker);
  for (const address of addresses) {
    if (!contains(list, address) && !(near && isLoopback(address))) {
      return `${host} is not the worker's address ${worker.address}: allow it with: llmnode head --allow-advertise ${address}`;
    }
  }
  return true;
}

function addressOf(url: URL): HostPort {
  const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port };
}

function unreachable(reason: string): Route {
  return { via: "unreachable", reason };
}
