/** The compiled binary as a head and workers on the machines of a test network. */

import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import { binaryPath } from "../helpers/binary.ts";
import { ownEnvironment } from "../helpers/environment.ts";
import { runProcess, spawnProcess, type TestProcess } from "../helpers/process.ts";
import { type TempDir, tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";
import { type Machine, type Network, openNetwork } from "./namespaces.ts";

export interface Cluster extends AsyncDisposable {
  readonly network: Network;
  readonly head: Machine;
  /** What lets workers in. */
  readonly token: string;
  /** What a person reads who starts the head on a terminal. */
  readonly banner: string;
  /** Runs what a person typed on that machine, in a shell that finds `llmnode` and `programs`. */
  paste(machine: Machine, line: string, programs: Record<string, string>): TestProcess;
  /** Joins with an engine of model `m`; more flags are the engine's. */
  join(machine: Machine, options?: { address?: string; engine?: string[] }): TestProcess;
  status(): Promise<Status>;
  /** Waits until the model has this many replicas ready. */
  ready(count: number, timeoutMs?: number): Promise<Status>;
  /** Waits until a worker is in that state. */
  state(name: string, state: string, timeoutMs?: number): Promise<Status>;
  ask(extra?: object, headers?: Record<string, string>): Promise<Response>;
}

export interface Status {
  workers: {
    id: string;
    name: string;
    state: string;
    engines: { route: string | null; replicas: { in_flight: number }[] }[];
  }[];
  models: { name: string; ready: number; in_flight: number }[];
}

/** `onTerminal`: the head runs on a terminal, as a person would start it. */
export async function startCluster({ onTerminal = false } = {}): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const binary = await binaryPath();
  const network = stack.use(openNetwork());
  const head = network.machine("head");
  const home: TempDir = stack.use(tempDir());
  const env = ownEnvironment(home.path);
  const command = onTerminal
    ? ["script", "-qfec", `'${binary}' head --access open`, "/dev/null"]
    : [binary, "head", "--access", "open"];
  // Its addresses are for tests of networks, and count as the world.
  const child = stack.use(spawnProcess(head.run(command), { env }));
  await child.waitForLine(onTerminal ? /^ +look +/ : "head is up", { timeoutMs: 20_000 });
  const shown = await runProcess(head.run([binary, "join-token", "show"]), { env });
  const token = shown.stdout.trim();
  const all = stack.move();
  const status = async () => {
    // By the loopback address: it does not depend on how the network is.
    const argv = head.run([binary, "status", "--json"]);
    const { code, stdout, stderr } = await runProcess(argv, { env });
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Status;
  };
  const until = (what: string, timeoutMs: number, holds: (now: Status) => boolean) =>
    waitFor(
      async () => {
        const now = await status();
        return holds(now) ? now : null;
      },
      { what, timeoutMs },
    );
  return {
    network,
    head,
    token,
    banner: child.output().replaceAll("\r", ""),
    paste(machine, line, programs) {
      const place = all.use(tempDir());
      for (const [name, text] of Object.entries(programs)) {
        writeFileSync(path.join(place.path, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
      }
      const PATH = [place.path, path.dirname(binary), process.env["PATH"]].join(":");
      const shell = machine.run(["sh", "-c", `exec env ${line}`]);
      return all.use(spawnProcess(shell, { env: ownEnvironment(place.path, { PATH }) }));
    },
    join(machine, { address = head.address, engine = [] } = {}) {
      const place = all.use(tempDir());
      const sim = ["llmnode", "sim", "--model", "m", "--port", "0", ...engine];
      const name = machine.namespace.replace(/^.*-\d+-\d+-/, "");
      const argv = [binary, "join", address, "--name", name, "--", ...sim];
      const secret = { LLMNODE_TOKEN: token };
      return all.use(spawnProcess(machine.run(argv), { env: ownEnvironment(place.path, secret) }));
    },
    status,
    ready: (count, timeoutMs = 20_000) =>
      until(`${count} replicas`, timeoutMs, ({ models }) => models[0]?.ready === count),
    state: (name, state, timeoutMs = 20_000) =>
      until(`${name} to be ${state}`, timeoutMs, ({ workers }) =>
        workers.some((worker) => worker.name === name && worker.state === state),
      ),
    ask: (extra = {}, headers = {}) =>
      fetch(`http://${head.address}:8092/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: chat(extra),
        keepalive: false,
        proxy: "",
      }),
    [Symbol.asyncDispose]: () => all[Symbol.asyncDispose](),
  };
}

function chat(extra: object): string {
  const messages = [{ role: "user", content: "hi" }];
  return JSON.stringify({ model: "m", messages, stream: true, max_tokens: 20, ...extra });
}

/** A streamed chat on a socket of its own: fetch has fewer than such tests need. Its whole answer. */
export function rawStream({ head }: Cluster, extra: object): Promise<string> {
  const done = Promise.withResolvers<string>();
  const body = chat(extra);
  const socket = connect(8092, head.address, () => {
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: head\r\nconnection: close\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
  });
  let text = "";
  socket.setEncoding("utf8");
  socket.on("data", (piece) => void (text += piece.toString()));
  socket.on("error", done.reject);
  socket.on("close", () => done.resolve(text));
  return done.promise;
}
