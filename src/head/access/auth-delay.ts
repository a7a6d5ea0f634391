/** Holds back the answers to bad credentials, longer each time for the same address. */

export interface AuthDelayOptions {
  now: () => number;
  /** Failures that are answered at once. */
  free?: number;
  /** The delay of the first failure after those; it doubles with each. */
  firstMs?: number;
  maxMs?: number;
  /** After so long without one more, one failure is forgiven. */
  forgiveMs?: number;
  /** Addresses that are remembered; the one whose last failure is the longest ago is forgotten. */
  maxAddresses?: number;
  /**
   * Answers that are held back at once: some kilobytes each. Fewer would not do: a client that is not held
   * back asks again at full speed, and good clients wait behind that.
   */
  maxWaiting?: number;
}

export interface AuthDelay extends Disposable {
  /**
   * Counts a failure of `address` and waits as long as it deserves, or until `signal`. False at once
   * when too many wait already. Others are never held back, the same address's good ones included.
   */
  failed(address: string, signal: AbortSignal): Promise<boolean>;
  readonly waiting: number;
}

export function createAuthDelay(options: AuthDelayOptions): AuthDelay {
  const { now } = options;
  const { free = 2, firstMs = 100, maxMs = 5000, forgiveMs = 10_000 } = options;
  const { maxAddresses = 10_000, maxWaiting = 4096 } = options;
  /** In the order of their last failures. */
  const failures = new Map<string, { count: number; at: number }>();
  const held = new Set<() => void>();

  const count = (address: string): number => {
    const at = now();
    const before = failures.get(address);
    const forgiven = before ? Math.floor((at - before.at) / forgiveMs) : 0;
    const total = Math.max(0, (before?.count ?? 0) - forgiven) + 1;
    failures.delete(address);
    const [oldest] = failures.keys();
    if (failures.size >= maxAddresses && oldest !== undefined) failures.delete(oldest);
    failures.set(address, { count: total, at });
    return total;
  };

  return {
    get waiting() {
      return held.size;
    },
    async failed(address, signal) {
      const beyond = count(address) - free;
      if (beyond <= 0) return true;
      if (held.size >= maxWaiting) return false;
      // 2^30 is enough for any maximum, and no overflow.
      const delayMs = Math.min(maxMs, firstMs * 2 ** Math.min(30, beyond - 1));
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, delayMs);
      held.add(resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
      if (signal.aborted) resolve();
      await promise;
      clearTimeout(timer);
      held.delete(resolve);
      return true;
    },
    [Symbol.dispose]() {
      for (const release of held) release();
    },
  };
}
