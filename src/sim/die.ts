/** How a simulated engine ends without being asked. */

import type { SimOptions } from "./core/options.ts";

/** SIGKILL, as shells and containers count it. */
const KILLED = 137;

/** Says why, then ends the process with `code`, or by SIGKILL for 137. */
export function die(options: SimOptions, why: string, code: number): void {
  options.print(`llmnode sim: dying now, ${why} (simulated)`);
  if (options.exit) options.exit(code);
  else if (code === KILLED) process.kill(process.pid, "SIGKILL");
  else process.exit(code);
}
