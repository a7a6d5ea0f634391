/** An engine as the routing benchmark has it: batches, a prefix cache, and nothing but arithmetic. */

export interface SimPrompt {
  tokens: number;
  /** Each names its block and all that is before it, as engines name theirs. */
  blocks: readonly number[];
}

export interface SimJob {
  prompt: SimPrompt;
  outTokens: number;
  onFirstToken(now: number, cachedTokens: number): void;
  onDone(now: number): void;
}

export interface EngineModel {
  /** Prompt tokens a second, while nothing else is to do. */
  prefillTokensPerS: number;
  /** Prompts that it can keep, in tokens; the one not used for the longest time goes first. */
  kvTokens: number;
  blockTokens: number;
  /** Requests that it runs at once; others wait. */
  maxRunning: number;
  /** Prompt tokens that it reads between two output tokens. */
  chunkTokens: number;
  /** What an output token takes, and how much more it takes for each request beside it. */
  stepS: number;
  stepPerStreamS: number;
}

export const ENGINE_MODEL: EngineModel = {
  prefillTokensPerS: 15_000,
  kvTokens: 400_000,
  blockTokens: 64,
  maxRunning: 256,
  chunkTokens: 2048,
  stepS: 0.01,
  stepPerStreamS: 0.0001,
};

interface Reading {
  job: SimJob;
  left: number;
  cached: number;
}

export interface SimEngine {
  readonly busyS: number;
  /** Takes a job; true: it was idle, and is to be stepped from now on. */
  add(job: SimJob): boolean;
  /** Does one step; gives how long it takes, or null: there is nothing to do. */
  begin(): number | null;
  /** The step is over. */
  finish(now: number): void;
}

export function createSimEngine(model: EngineModel): SimEngine {
  const waiting: SimJob[] = [];
  let nextWaiting = 0;
  const reading: Reading[] = [];
  /** Ends of streams by step; a stream's tokens come one a step. */
  const ends = new Map<number, SimJob[]>();
  let streams = 0;
  let step = 0;
  let busyS = 0;
  let isBusy = false;
  let read: Reading[] = [];
  const cache = createBlockCache(Math.floor(model.kvTokens / model.blockTokens));

  const admit = () => {
    while (streams + reading.length < model.maxRunning && nextWaiting < waiting.length) {
      const job = waiting[nextWaiting] as SimJob;
      nextWaiting += 1;
      if (nextWaiting > 1024 && nextWaiting * 2 > waiting.length) {
        waiting.splice(0, nextWaiting);
        nextWaiting = 0;
      }
      reading.push({ job, left: -1, cached: 0 });
    }
  };
  const look = (entry: Reading) => {
    const { prompt } = entry.job;
    const held = cache.count(prompt.blocks) * model.blockTokens;
    // The last token is always computed.
    entry.cached = Math.max(0, Math.min(held, prompt.tokens - 1));
    entry.left = prompt.tokens - entry.cached;
  };

  return {
    get busyS() {
      return busyS;
    },
    add(job) {
      waiting.push(job);
      if (isBusy) return false;
      isBusy = true;
      return true;
    },
    begin() {
      admit();
      read = [];
      let budget = model.chunkTokens;
      for (const entry of reading) {
        if (budget === 0) break;
        if (entry.left === -1) look(entry);
        const part = Math.min(entry.left, budget);
        entry.left -= part;
        budget -= part;
        if (entry.left === 0) read.push(entry);
      }
      const tokens = model.chunkTokens - budget;
      if (streams === 0 && tokens === 0) {
        isBusy = false;
        return null;
      }
      const took = model.stepS + model.stepPerStreamS * streams + tokens / model.prefillTokensPerS;
      busyS += took;
      return took;
    },
    finish(now) {
      step += 1;
      for (const job of ends.get(step) ?? []) {
        streams -= 1;
        job.onDone(now);
      }
      ends.delete(step);
      if (read.length === 0) return;
      reading.splice(0, read.length);
      for (const { job, cached } of read) {
        const { prompt } = job;
        cache.put(prompt.blocks, Math.floor(prompt.tokens / model.blockTokens));
        job.onFirstToken(now, cached);
        if (job.outTokens <= 1) {
          job.onDone(now);
          continue;
        }
        streams += 1;
        const end = step + job.outTokens - 1;
        const others = ends.get(end);
        if (others) others.push(job);
        else ends.set(end, [job]);
      }
    },
  };
}

interface BlockCache {
  /** How many of the first blocks it holds; they count as used. */
  count(blocks: readonly number[]): number;
  put(blocks: readonly number[], full: number): void;
}

function createBlockCache(capacity: number): BlockCache {
  const held = new Set<number>();
  const use = (block: number) => {
    held.delete(block);
    held.add(block);
  };
  return {
    count(blocks) {
      let found = 0;
      while (found < blocks.length && held.has(blocks[found] as number)) found += 1;
      for (let i = found - 1; i >= 0; i -= 1) use(blocks[i] as number);
      return found;
    },
    put(blocks, full) {
      for (let i = Math.min(full, blocks.length) - 1; i >= 0; i -= 1) use(blocks[i] as number);
      for (const block of held) {
        if (held.size <= capacity) break;
        held.delete(block);
      }
    },
  };
}
