/** Measures what lists over all workers take, and what they do to a request that passes beside. */

import { type StartedHead, untilAnswers } from "../lane/stage.ts";
import type { Children } from "../children.ts";
import type { Load } from "../load/load.ts";
import { histogram, median } from "../stats.ts";
import { warmUp } from "../warm-up.ts";

export interface ListsRow {
  workers: number;
  /** From the request to the last byte, in milliseconds. */
  metrics_ms: number;
  status_ms: number;
  models_ms: number;
  /** Of requests of 2 KB, one at a time, while the lists are asked for in turn. */
  request_p50_us: number;
  request_p99_us: number;
  request_slowest_us: number;
  /** The engine alone, under the same workers: what load and engine themselves take. */
  engine_p99_us: number;
  errors: number;
}

export interface ListsOptions {
  children: Children;
  load: Load;
  head: StartedHead;
  enginePort: number;
  workers: number;
  windowMs: number;
  say: (line: string) => void;
}

const LISTS = ["/metrics", "/api/v1/status", "/v1/models"] as const;
/** Between two lists: most requests see none, and more than one in a hundred does. */
const PAUSE_MS = 100;
const LIST_LIMIT_MS = 30_000;
const WARM_UP_REQUESTS = 2000;

export async function measureLists(options: ListsOptions): Promise<ListsRow> {
  const { children, load, head, enginePort, workers, windowMs, say } = options;
  await untilAnswers({ name: "the head", port: head.port }, children);
  const through = { port: head.port, headers: {}, watchPid: null };
  const warmed = [{ name: "the head", aim: through }];
  await warmUp({ load, say, targets: warmed }, { requests: WARM_UP_REQUESTS, limitMs: windowMs });
  for (const path of LISTS) await ask(head.port, path);

  const job = { kind: "requests", bodyBytes: 2048, concurrency: 1, durationMs: windowMs } as const;
  const took = new Map<string, number[]>(LISTS.map((path) => [path, []]));
  let isOver = false;
  const passing = load.do({ ...job, ...through }).finally(() => (isOver = true));
  const asking = async () => {
    for (let n = 0; !isOver || n < LISTS.length; n += 1) {
      const path = LISTS[n % LISTS.length] ?? LISTS[0];
      took.get(path)?.push(await ask(head.port, path));
      await Bun.sleep(PAUSE_MS);
    }
  };
  const [passed] = await Promise.all([passing, asking()]);
  const direct = await load.do({ ...job, ...{ ...through, port: enginePort } });
  const times = histogram(passed.latencies);
  return {
    workers,
    metrics_ms: median(took.get("/metrics") ?? []),
    status_ms: median(took.get("/api/v1/status") ?? []),
    models_ms: median(took.get("/v1/models") ?? []),
    request_p50_us: times.percentile(0.5),
    request_p99_us: times.percentile(0.99),
    request_slowest_us: times.percentile(1),
    engine_p99_us: histogram(direct.latencies).percentile(0.99),
    errors: passed.errors,
  };
}

/** Milliseconds until all of it is here. */
async function ask(port: number, path: string): Promise<number> {
  const started = performance.now();
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    proxy: false,
    signal: AbortSignal.timeout(LIST_LIMIT_MS),
  });
  await response.bytes();
  if (response.status !== 200) throw new Error(`${path} answers ${response.status}`);
  return performance.now() - started;
}
