/** Reads how much processor time processes have used; Linux only. */

import { readFile } from "node:fs/promises";

/** Source: proc(5), `USER_HZ`; 100 on every machine that Linux runs engines on. */
const MS_PER_TICK = 10;

/** Of all of them together, in ms; null where there is no /proc. Those that are gone count nothing. */
export async function processorMs(pids: readonly number[]): Promise<number | null> {
  let total: number | null = null;
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
    // The name in parentheses may itself hold spaces and parentheses: the last one closes it.
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields?.[11]) + Number(fields?.[12]);
    if (Number.isFinite(ticks)) total = (total ?? 0) + ticks * MS_PER_TICK;
  }
  return total;
}
