/** Writes a line for each finished request, in batches. */

import { messageOf as errorText } from "../../protocol/errors.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import { createLineWriter, type RequestLogFormat } from "./request-line.ts";

export interface RequestLogOptions extends Partial<typeof DEFAULTS> {
  format: RequestLogFormat;
  /**
   * Takes whole lines. Where it returns a promise, nothing more is written until that settles, so
   * that a slow reader cannot fill the memory.
   */
  write: (lines: string) => void | Promise<void>;
  /** Told once when the sink begins to fail. */
  log: Log;
}

const DEFAULTS = {
  /** How long a line waits for others. */
  flushMs: 100,
  /** How much makes a batch that does not wait, in characters. */
  flushChars: 64 * 1024,
  /** How much may wait for a slow sink, in characters; further lines are dropped and counted. */
  maxBufferedChars: 4 * 1024 * 1024,
  /** How long the end waits for a slow sink. */
  stopTimeoutMs: 1000,
};

export function createRequestLog(options: RequestLogOptions) {
  const { format, write, log, flushMs, flushChars, maxBufferedChars, stopTimeoutMs } = {
    ...DEFAULTS,
    ...options,
  };
  const lines = createLineWriter(format);
  const waiting = new Waiting(maxBufferedChars);
  let dropped = 0;
  let failing = false;
  let stopped = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** The sink is busy until this settles. */
  let writing: Promise<void> | null = null;

  /** False when the sink has failed: the batch is lost, and counted with the next one. */
  const writeBatch = async () => {
    const batch = waiting.takeBatch();
    const lost = dropped + batch.length;
    try {
      let text = "";
      for (const record of batch) text += lines.request(record);
      if (dropped > 0) text += lines.dropped(dropped);
      dropped = 0;
      await write(text);
      failing = false;
      return true;
    } catch (error) {
      if (!failing) log.warn("cannot write the request log", { error: errorText(error) });
      failing = true;
      dropped += lost;
      return false;
    }
  };
  const flush = async () => {
    let works = true;
    while (works && (waiting.count > 0 || dropped > 0)) works = await writeBatch();
    // In the same turn as the last check: a line that comes now starts the next one.
    writing = null;
    if (waiting.count > 0 && !stopped) timer ??= setTimeout(startFlush, flushMs);
  };
  const startFlush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (waiting.count > 0 || dropped > 0) writing ??= flush();
  };
  return {
    /** Never throws and never waits. */
    onRecord(record: RequestRecord) {
      if (stopped) return;
      if (!waiting.add(record)) {
        dropped += 1;
        return;
      }
      if (writing) return;
      if (waiting.chars >= flushChars) startFlush();
      else timer ??= setTimeout(startFlush, flushMs);
    },
    async [Symbol.asyncDispose]() {
      stopped = true;
      startFlush();
      const enough = new AbortController();
      await Promise.race([writing, sleep(stopTimeoutMs, enough.signal)]);
      enough.abort();
    },
  };
}

/** Records whose lines are not written yet: to make them is left for when nobody waits for it. */
class Waiting {
  readonly #maxChars: number;
  #records: RequestRecord[] = [];
  chars = 0;

  constructor(maxChars: number) {
    this.#maxChars = maxChars;
  }

  get count(): number {
    return this.#records.length;
  }

  /** False where there is no room for it. */
  add(record: RequestRecord): boolean {
    const chars = this.chars + charsOf(record);
    if (chars > this.#maxChars) return false;
    this.#records.push(record);
    this.chars = chars;
    return true;
  }

  /** As many of the first ones as make a batch. */
  takeBatch(): RequestRecord[] {
    const batch = this.#records;
    let taken = 0;
    let count = 0;
    while (count < batch.length && taken < BATCH_CHARS) {
      taken += charsOf(batch[count] as RequestRecord);
      count += 1;
    }
    this.#records = batch.splice(count);
    this.chars -= taken;
    return batch;
  }
}

/** How much is made at once of what waits for a slow sink: about a millisecond's work. */
const BATCH_CHARS = 256 * 1024;
/** What a line has about, beside the texts that may be of any length. */
const LINE_CHARS = 600;

/** About how long the line of a record will be, and no less than what the record keeps in memory. */
function charsOf({ id, model, error, bodies }: RequestRecord): number {
  const texts = id.length + (model?.length ?? 0) + (error?.length ?? 0);
  return LINE_CHARS + texts + (bodies ? bodies.request.length + bodies.answer.length : 0);
}
