/** How many requests may be tried again: a share of all, so that trouble is not multiplied. */

export const BUDGET_LIMITS = {
  /** Repeats that are always allowed within `windowMs`. */
  least: 10,
  /** And as a share of the requests within it. */
  share: 0.2,
  windowMs: 10_000,
};
export type BudgetLimits = typeof BUDGET_LIMITS;

const SLICES = 10;

export interface RetryBudget {
  limits: BudgetLimits;
  /** A ring by time; `slice` names the tenth of the window that an entry counts. */
  ring: { slice: number; requests: number; retries: number }[];
}

export function newBudget(limits: BudgetLimits = BUDGET_LIMITS): RetryBudget {
  const ring = Array.from({ length: SLICES }, () => ({ slice: -1, requests: 0, retries: 0 }));
  return { limits, ring };
}

export function noteRequest(budget: RetryBudget, now: number): void {
  sliceAt(budget, now).requests += 1;
}

/** Whether one more request may be tried again; counts it where it may. */
export function takeRetry(budget: RetryBudget, now: number): boolean {
  const { limits, ring } = budget;
  const current = sliceAt(budget, now);
  let requests = 0;
  let retries = 0;
  for (const entry of ring) {
    if (current.slice - entry.slice >= SLICES) continue;
    requests += entry.requests;
    retries += entry.retries;
  }
  if (retries >= Math.max(limits.least, limits.share * requests)) return false;
  current.retries += 1;
  return true;
}

function sliceAt({ limits, ring }: RetryBudget, now: number): RetryBudget["ring"][number] {
  const slice = Math.floor((now * SLICES) / limits.windowMs);
  const entry = ring[slice % SLICES];
  if (entry === undefined) throw new Error("time runs backwards");
  if (entry.slice !== slice) {
    entry.slice = slice;
    entry.requests = 0;
    entry.retries = 0;
  }
  return entry;
}
