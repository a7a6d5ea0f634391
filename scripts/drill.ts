/** Fault drills: `scripts/run.sh drill [options]`, see scripts/drill/options.ts. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { startCluster } from "./drill/cluster.ts";
import { DRILLS, ENGINE_FLAGS } from "./drill/faults.ts";
import { readOptions, USAGE, type DrillOptions } from "./drill/options.ts";
import { createProcesses } from "./drill/processes.ts";
import { asJson, complaints, resultTable, summaryTable } from "./drill/report.ts";
import { runDrill, type Result } from "./drill/run.ts";
import { soak } from "./drill/soak.ts";

const INTERRUPTED = 130;
const WRONG_USAGE = 2;
const ROOT = resolve(import.meta.dir, "..");

process.exit(await main(process.argv.slice(2)));

async function main(args: string[]): Promise<number> {
  if (args.includes("--help")) return print(USAGE);
  if (args.includes("--list")) {
    return print(DRILLS.map(({ name, about }) => `${name.padEnd(16)} ${about}`).join("\n"));
  }
  let options: DrillOptions;
  try {
    options = readOptions(args);
  } catch (error) {
    tell(`error: ${messageOf(error)}`);
    return WRONG_USAGE;
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort(new Error("interrupted")));
  }
  const folder = mkdtempSync(join(tmpdir(), "llmnode-drill-"));
  try {
    return (await drill(options, folder, stop.signal)) ? 0 : 1;
  } catch (error) {
    tell(`error: ${messageOf(error)}`);
    return stop.signal.aborted ? INTERRUPTED : 1;
  } finally {
    if (options.keep) tell(`logs: ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether all went as it should. */
async function drill(options: DrillOptions, folder: string, signal: AbortSignal): Promise<boolean> {
  await using processes = createProcesses();
  const { binary, workers, soakMs } = options;
  const program =
    binary === null ? [process.execPath, join(ROOT, "src/main.ts")] : [resolve(binary)];
  tell(`a head and ${workers} workers start`);
  const cluster = await startCluster(processes, {
    ...{ workers, program, root: ROOT, folder, engineFlags: ENGINE_FLAGS, signal },
  });
  if (soakMs !== null) {
    const soaked = await soak(cluster, { options, soakMs, say: tell, signal });
    const { results, measured, failures, headGrowth } = soaked;
    const grown = {
      head_growth_bytes: Math.round(headGrowth.bytes),
      head_growth_bytes_per_hour: Math.round(headGrowth.bytesPerHour),
      measured,
      failures,
    };
    if (options.json) print(JSON.stringify({ soak: grown, drills: asJson(results) }));
    else {
      print(summaryTable(results));
      const mib = (bytes: number) => `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
      print(`head: grew by ${mib(headGrowth.bytes)}, ${mib(headGrowth.bytesPerHour)} an hour`);
      print(failures.join("\n") || "no failures");
    }
    return failures.length === 0;
  }
  const results: Result[] = [];
  for (const one of DRILLS.filter(({ name }) => options.only.includes(name))) {
    tell(`${one.name}: ${one.about}`);
    results.push(await runDrill(one, cluster, { options, seed: options.seed, signal }));
  }
  if (options.json) print(JSON.stringify({ drills: asJson(results) }));
  else print([resultTable(results), complaints(results)].filter(Boolean).join("\n\n"));
  return results.every(({ failures }) => failures.length === 0);
}

function print(text: string): 0 {
  process.stdout.write(`${text}\n`);
  return 0;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
