/** Small networks of Linux network namespaces: machines, a router between them, NAT, lost packets. */

import { afterAll } from "bun:test";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

/**
 * A router with machines around it, each on a link of its own, in 198.18.0.0/15 (RFC 2544: for
 * tests of network devices). This process has a link to the router too.
 */
export interface Network extends Disposable {
  /** This process's own address in the network. */
  readonly address: string;
  /** Adds a machine that every other one can reach. */
  machine(name: string): Machine;
  /** Adds a machine behind a router of its own: it reaches all, and nothing can reach it. */
  machineBehindNat(name: string): Machine;
  /** Moves a machine to another address; its old one is gone. */
  renumber(machine: Machine): Machine;
  /** Drops what the router would pass and the rule describes, until disposed. */
  drop(...rules: string[]): Disposable;
  /** Drops all packets from and to a machine, until disposed. */
  cutOff(machine: Machine): Disposable;
}

export interface Machine {
  /** As the others see it. */
  readonly address: string;
  /** A command that runs there. */
  run(argv: readonly string[]): string[];
  /** What the machine takes for `/etc/hosts`, read anew at each look-up. */
  hosts(text: string): void;
  readonly namespace: string;
}

const PREFIX = "llmnode-test-";
const INTERFACE = "lnt";
const HOSTS = "/etc/netns";

/** Why there can be no namespaces here; null when there can. */
export function whyNoNamespaces(): string | null {
  if (process.platform !== "linux") return "network namespaces are a matter of Linux";
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const program of ["ip", "iptables"]) {
    if (Bun.which(program) === null) return `${program} is not installed`;
  }
  sweep();
  try {
    using network = openNetwork();
    using _ = network.cutOff(network.machineBehindNat("try"));
    return null;
  } catch (error) {
    return `this machine refuses network namespaces: ${String(error).split("\n")[0]}`;
  }
}

/** Runs shell commands as root, all or, at the first failure, an error. */
function shell(...commands: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["sh", "-ec", commands.join("\n")], {
    stdin: "ignore",
    stdout: "ignore",
    timeout: 20_000,
  });
  if (exitCode !== 0) throw new Error(stderr.toString().trim() || `exit status ${exitCode}`);
}

/** Removes what test processes that were killed have left. */
function sweep(): void {
  const folders = ["/run/netns", HOSTS].flatMap((folder) => {
    try {
      return readdirSync(folder);
    } catch {
      return []; // nobody has made any yet
    }
  });
  for (const name of new Set(folders)) {
    const pid = /^llmnode-test-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !isThere(Number(pid))) remove([name]);
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function remove(namespaces: readonly string[]): void {
  for (const name of namespaces) {
    Bun.spawnSync(["ip", "netns", "del", name], { stderr: "ignore" });
    rmSync(path.join(HOSTS, name), { recursive: true, force: true });
  }
}

// A test that ran out of time, or a process that ends in the middle, disposes nothing itself.
const open = new Set<Network>();
const removeAll = () => {
  for (const network of open) network[Symbol.dispose]();
};
afterAll(removeAll);
process.on("exit", removeAll);

let networks = 0;

export function openNetwork(): Network {
  networks += 1;
  const id = `${PREFIX}${process.pid}-${networks}`;
  const router = `${id}-router`;
  const inRouter = `ip netns exec ${router}`;
  const namespaces = [router];
  let links = 0;
  shell(`ip netns add ${router}`, `ip -n ${router} link set lo up`);
  const { outer, net } = claim(router);
  shell(
    `${inRouter} sysctl -qw net.ipv4.ip_forward=1`,
    `ip addr add ${net}.2/30 dev ${outer}`,
    `ip link set ${outer} up`,
    `ip -n ${router} addr add ${net}.1/30 dev out`,
    `ip -n ${router} link set out up`,
    `ip route add ${net}.0/24 via ${net}.1 dev ${outer}`,
  );

  /** A link from the router to a namespace; returns the address at its far end. */
  const link = (namespace: string, name: string): string => {
    links += 1;
    const [near, far] = [`${net}.${4 * links + 1}`, `${net}.${4 * links + 2}`];
    shell(
      `ip -n ${router} link add l${links} type veth peer name ${name} netns ${namespace}`,
      `ip -n ${router} addr add ${near}/30 dev l${links}`,
      `ip -n ${router} link set l${links} up`,
      `ip -n ${namespace} addr add ${far}/30 dev ${name}`,
      `ip -n ${namespace} link set ${name} up`,
      `ip -n ${namespace} route replace default via ${near}`,
    );
    return far;
  };
  const namespaceOf = (name: string): string => {
    const namespace = `${id}-${name}`;
    namespaces.push(namespace);
    shell(`ip netns add ${namespace}`, `ip -n ${namespace} link set lo up`);
    return namespace;
  };
  const machineAt = (namespace: string, address: string): Machine => ({
    address,
    namespace,
    run: (argv) => ["ip", "netns", "exec", namespace, ...argv],
    hosts(text) {
      mkdirSync(path.join(HOSTS, namespace), { recursive: true });
      // In place: a running program sees this very file mounted over its own.
      writeFileSync(path.join(HOSTS, namespace, "hosts"), text);
    },
  });

  const network: Network = {
    address: `${net}.2`,
    machine(name) {
      const namespace = namespaceOf(name);
      return machineAt(namespace, link(namespace, "eth0"));
    },
    machineBehindNat(name) {
      const namespace = namespaceOf(name);
      const nat = namespaceOf(`${name}-nat`);
      const address = link(nat, "wan");
      shell(
        `ip -n ${nat} link add lan type veth peer name eth0 netns ${namespace}`,
        `ip -n ${nat} addr add 192.168.7.1/24 dev lan`,
        `ip -n ${nat} link set lan up`,
        `ip -n ${namespace} addr add 192.168.7.2/24 dev eth0`,
        `ip -n ${namespace} link set eth0 up`,
        `ip -n ${namespace} route add default via 192.168.7.1`,
        `ip netns exec ${nat} sysctl -qw net.ipv4.ip_forward=1`,
        `ip netns exec ${nat} iptables -w -t nat -A POSTROUTING -o wan -j MASQUERADE`,
        `ip netns exec ${nat} iptables -w -A FORWARD -i lan -j ACCEPT`,
        `ip netns exec ${nat} iptables -w -A FORWARD -m state --state ESTABLISHED -j ACCEPT`,
        `ip netns exec ${nat} iptables -w -A FORWARD -j DROP`,
      );
      return machineAt(namespace, address);
    },
    renumber({ namespace }) {
      shell(`ip -n ${namespace} link del eth0`);
      return machineAt(namespace, link(namespace, "eth0"));
    },
    drop(...rules) {
      const all = (action: string) =>
        rules.map((rule) => `${inRouter} iptables -w -${action} FORWARD ${rule} -j DROP`);
      shell(...all("A"));
      let dropping = true;
      return {
        [Symbol.dispose]() {
          if (dropping) shell(...all("D"));
          dropping = false;
        },
      };
    },
    cutOff: ({ address }) => network.drop(`-s ${address}`, `-d ${address}`),
    [Symbol.dispose]() {
      if (!open.delete(network)) return;
      Bun.spawnSync(["ip", "link", "del", outer], { stderr: "ignore" });
      remove(namespaces);
    },
  };
  open.add(network);
  return network;
}

/** The first /24 that no other test process has: the name of this process's link to it tells. */
function claim(router: string): { outer: string; net: string } {
  for (let i = 0; i < 512; i += 1) {
    const outer = `${INTERFACE}${i}`;
    const made = Bun.spawnSync(
      ["ip", "link", "add", outer, "type", "veth", "peer", "name", "out", "netns", router],
      { stderr: "pipe" },
    );
    if (made.exitCode === 0) return { outer, net: `198.${18 + (i >> 8)}.${i & 255}` };
    const text = made.stderr.toString().trim();
    if (!text.includes("exists")) {
      remove([router]);
      throw new Error(text);
    }
  }
  remove([router]);
  throw new Error("no address range is free");
}
