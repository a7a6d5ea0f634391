/** Who may use models: the words that a head can be started with. */

/**
 * `auto`: clients of private networks without an API key until the first key exists, then keys only.
 * `private`: clients of private networks never need a key, all others do. `keys`: everyone needs one,
 * even while there is none. `open`: no one needs one.
 */
export const ACCESS_MODES = ["auto", "private", "keys", "open"] as const;
export type AccessMode = (typeof ACCESS_MODES)[number];
