/** Who asks the head for something, with which role and limits. */

/**
 * Each may what those before it may. `none`: nobody who showed a key, where none is needed; `user`:
 * models; `viewer`: what the cluster looks like; `operator`: what changes it; `admin`: the head's own
 * admin token.
 */
const ROLES = ["none", "user", "viewer", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** The roles that an API key can have. */
export const KEY_ROLES = ["user", "viewer", "operator"] as const;
export type KeyRole = (typeof KEY_ROLES)[number];

/** What a key may use; null: as much as it likes. All are whole numbers above zero. */
export interface KeyLimits {
  requestsPerMinute: number | null;
  tokensPerMinute: number | null;
  /** Requests that may run at once. */
  concurrency: number | null;
  /** Input and output together, from midnight to midnight UTC. */
  tokensPerDay: number | null;
}

export const NO_LIMITS: KeyLimits = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrency: null,
  tokensPerDay: null,
};

/** An API key as requests carry it about; never its secret. */
export interface CallerKey {
  /** Names it in lists, logs and labels. */
  readonly id: string;
  readonly name: string;
  readonly role: KeyRole;
  /** Names of models, with `*`; null: any. */
  readonly models: readonly string[] | null;
  readonly limits: KeyLimits;
  /** Whether it may ask for a model of that name. */
  readonly allows: (model: string) => boolean;
}

/** Who a request comes from, once that has been looked at. */
export interface Caller {
  /** Null: without an API key. */
  readonly key: CallerKey | null;
  /** The client's own address, behind trusted proxies too. */
  readonly address: string;
  readonly role: Role;
}

/** Whether `role` is `needed` or more. */
export function hasRole({ role }: Pick<Caller, "role">, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** By what places and shares are counted: the key, or the address where there is none. */
export function callerName({ key, address }: Caller): string {
  return key === null ? address : `key:${key.id}`;
}
