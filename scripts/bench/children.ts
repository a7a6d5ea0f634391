/** The processes that a benchmark starts: pinned to cores, watched, and all ended at the end. */

import { allowedCores } from "./proc.ts";

/** What relays gets a core of its own, everything else shares the other. */
export type Place = "relay" | "rest";

export interface ChildOptions {
  name: string;
  argv: string[];
  place: Place;
  cwd: string;
  env?: Record<string, string>;
  /** Opens a channel; called for what the child sends. */
  onMessage?: (message: unknown) => void;
}

export interface Child {
  readonly pid: number;
  send(message: object): void;
  /** Waits for a line in what it prints. */
  line(pattern: RegExp): Promise<RegExpExecArray>;
  stop(): Promise<void>;
}

export interface Children extends AsyncDisposable {
  start(options: ChildOptions): Child;
  /** How processes are pinned, for people. */
  readonly pinning: string;
  /** Rejects as soon as one ends that was not told to. */
  readonly trouble: Promise<never>;
}

const READY_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 5000;
/** Of what each one prints, for the line that is waited for and for complaints. */
const OUTPUT_LIMIT = 16_384;

export function createChildren(): Children {
  const running = new Set<{ name: string; process: Bun.Subprocess; told: boolean }>();
  const trouble = Promise.withResolvers<never>();
  trouble.promise.catch(() => {}); // whoever waits hears of it
  const { prefix, pinning } = placing();
  // The last resort for an end that passes by every `finally`.
  const killAll = () => {
    for (const { process: child } of running) child.kill("SIGKILL");
  };
  process.on("exit", killAll);

  const stop = async (entry: { process: Bun.Subprocess; told: boolean }) => {
    entry.told = true;
    entry.process.kill("SIGTERM");
    const timer = setTimeout(() => entry.process.kill("SIGKILL"), STOP_LIMIT_MS);
    await entry.process.exited;
    clearTimeout(timer);
  };

  return {
    pinning,
    trouble: trouble.promise,
    start({ name, argv, place, cwd, env, onMessage }) {
      const child = Bun.spawn([...prefix(place), ...argv], {
        stdio: ["ignore", "pipe", "pipe"],
        cwd,
        // In a group of its own: Ctrl-C comes to the benchmark, which ends them in order.
        detached: true,
        env: { ...cleanEnvironment(), ...env },
        ...(onMessage === undefined ? {} : { ipc: onMessage, serialization: "json" as const }),
      });
      const entry = { name, process: child, told: false };
      running.add(entry);
      let output = "";
      const watchers = new Set<() => void>();
      const collect = async (stream: ReadableStream<Uint8Array>) => {
        const decoder = new TextDecoder();
        for await (const chunk of stream) {
          output = (output + decoder.decode(chunk, { stream: true })).slice(-OUTPUT_LIMIT);
          for (const look of watchers) look();
        }
      };
      void Promise.all([child.exited, collect(child.stdout), collect(child.stderr)]).then(() => {
        running.delete(entry);
        if (!entry.told) trouble.reject(new Error(`${name} ended by itself:\n${output}`));
      });
      return {
        pid: child.pid,
        send: (message) => child.send(message),
        stop: () => stop(entry),
        async line(pattern) {
          const found = Promise.withResolvers<RegExpExecArray>();
          const look = () => {
            const match = pattern.exec(output);
            if (match !== null) found.resolve(match);
          };
          const timer = setTimeout(
            () => found.reject(new Error(`${name} is not up in time:\n${output}`)),
            READY_LIMIT_MS,
          );
          watchers.add(look);
          look();
          try {
            return await Promise.race([found.promise, trouble.promise]);
          } finally {
            clearTimeout(timer);
            watchers.delete(look);
          }
        },
      };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...running].map(stop));
      process.off("exit", killAll);
    },
  };
}

function placing(): { prefix: (place: Place) => string[]; pinning: string } {
  const cores = allowedCores();
  const taskset = Bun.which("taskset");
  const relay = cores[0] ?? 0;
  const rest = cores.at(-1) ?? 0;
  // A benchmark that is killed outright cannot tidy up: the kernel then does.
  const setpriv = Bun.which("setpriv");
  const guard = setpriv === null ? [] : [setpriv, "--pdeathsig", "KILL"];
  if (taskset === null || relay === rest) {
    const why = taskset === null ? "no taskset" : "one core only";
    return { prefix: () => guard, pinning: `processes are not pinned to cores (${why})` };
  }
  return {
    prefix: (place) => [...guard, taskset, "-c", String(place === "relay" ? relay : rest)],
    pinning: `each relay is pinned to core ${relay}, load and engine to core ${rest}`,
  };
}

/** Without settings that are meant for other things, and without proxies: all stays on loopback. */
function cleanEnvironment(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && !/^(LLMNODE_|BUN_|NODE_)|_proxy$/i.test(entry[0]),
  );
  return Object.fromEntries(entries);
}
