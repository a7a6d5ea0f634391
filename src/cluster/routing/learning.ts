/** What the router learns of engines and models from requests that have gone before. */

/** How fast an engine reads prompts. */
export interface PrefillSpeed {
  readonly tokensPerS: number;
  /**
   * A first byte of a stream that the engine had no other work beside: how many tokens of its
   * prompt were not cached, and how long it took from sending it.
   */
  observe(missTokens: number, ttftMs: number): void;
}

const SPEED_LIMITS = {
  /** What is assumed of an engine that nothing is known of. */
  initial: 15_000,
  min: 500,
  max: 200_000,
  /** Prompts below this say nothing of speed, since all else takes longer. */
  minTokens: 2000,
  /** Prompts below this say how long all else takes. */
  shortTokens: 200,
};
export type SpeedLimits = typeof SPEED_LIMITS;

/** The last short prompts whose median is what an engine takes beside reading. */
const SHORT_SAMPLES = 15;
/** The weight of one observation once there are enough of them. */
const WEIGHT = 0.2;

export function createPrefillSpeed(limits: SpeedLimits = SPEED_LIMITS): PrefillSpeed {
  let tokensPerS = limits.initial;
  let samples = 0;
  const short: number[] = [];
  return {
    get tokensPerS() {
      return tokensPerS;
    },
    observe(missTokens, ttftMs) {
      if (!isFigure(missTokens, 0) || !isFigure(ttftMs, Number.MIN_VALUE)) return;
      if (missTokens < limits.shortTokens) {
        short.push(ttftMs);
        if (short.length > SHORT_SAMPLES) short.shift();
        return;
      }
      if (missTokens < limits.minTokens) return;
      const readingMs = Math.max(ttftMs - medianOf(short), 1e-3);
      const seen = clamp((missTokens * 1000) / readingMs, limits.min, limits.max);
      // What is assumed counts as one observation: the first one may have met a compile pause.
      tokensPerS += (seen - tokensPerS) * Math.max(WEIGHT, 1 / (samples + 2));
      samples += 1;
    },
  };
}

/** How many bytes of a request one token of its prompt takes, for one model. */
export interface TokenRatio {
  readonly bytesPerToken: number;
  /** The engine has counted the tokens of a prompt. */
  observe(bytes: number, tokens: number): void;
}

/** English text in the usual vocabularies. */
const BYTES_PER_TOKEN = 4;
/** Prompts that count, in tokens: how soon new ones outweigh the old. */
const RATIO_MEMORY_TOKENS = 100_000;
/** What is assumed weighs as much as this many tokens. */
const RATIO_PRIOR_TOKENS = 500;

export function createTokenRatio(): TokenRatio {
  let bytesSeen = RATIO_PRIOR_TOKENS * BYTES_PER_TOKEN;
  let tokensSeen = RATIO_PRIOR_TOKENS;
  return {
    get bytesPerToken() {
      return clamp(bytesSeen / tokensSeen, 0.5, 64);
    },
    observe(bytes, tokens) {
      if (!isFigure(bytes, 1) || !isFigure(tokens, 1)) return;
      // One prompt, however long, is one opinion.
      const weight = Math.min(1, RATIO_MEMORY_TOKENS / 4 / tokens);
      bytesSeen += bytes * weight;
      tokensSeen += tokens * weight;
      const excess = RATIO_MEMORY_TOKENS / tokensSeen;
      if (excess >= 1) return;
      bytesSeen *= excess;
      tokensSeen *= excess;
    },
  };
}

/** How long a model takes that its engine has to load first. */
export interface LoadTime {
  readonly seconds: number;
  observe(ms: number): void;
}

const INITIAL_LOAD_S = 30;

export function createLoadTime(initialS = INITIAL_LOAD_S): LoadTime {
  let seconds = initialS;
  return {
    get seconds() {
      return seconds;
    },
    observe(ms) {
      if (isFigure(ms, Number.MIN_VALUE)) seconds += (clamp(ms / 1000, 0.1, 3600) - seconds) / 2;
    },
  };
}

/** Neither infinite nor no number: what engines say is added up for hours. */
function isFigure(value: number, min: number): boolean {
  return value >= min && value <= Number.MAX_SAFE_INTEGER;
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
