/** What a head has confirmed, and what it may have done without saying so. */

/** What is known of one entry: null stands for absent. */
export type Value = string | null;

export interface Ledger {
  readonly confirmed: number;
  /** To be called before a change is asked for: from now on either may be found. */
  mayBecome(entry: string, value: Value): void;
  /** The head has said so. */
  is(entry: string, value: Value): void;
  /** Entries that are not as confirmed, one line each; what is found counts from now on. */
  compare(found: ReadonlyMap<string, string>): string[];
}

export function createLedger(): Ledger {
  const entries = new Map<string, Set<Value>>();
  let confirmed = 0;
  return {
    get confirmed() {
      return confirmed;
    },
    mayBecome(entry, value) {
      const known = entries.get(entry) ?? new Set<Value>([null]);
      entries.set(entry, known.add(value));
    },
    is(entry, value) {
      confirmed += 1;
      entries.set(entry, new Set([value]));
    },
    compare(found) {
      const lost: string[] = [];
      for (const [entry, allowed] of entries) {
        const value = found.get(entry) ?? null;
        if (!allowed.has(value)) {
          const wanted = [...allowed].map((one) => one ?? "absent").join(" or ");
          lost.push(`${entry} is ${value ?? "absent"}, it should be ${wanted}`);
        }
        entries.set(entry, new Set([value]));
      }
      return lost;
    },
  };
}
