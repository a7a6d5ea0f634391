/** What a worker shows to be let in: the form of join tokens, and where the first one is kept. */

/** Where below the data directory the head keeps its first join token, for workers beside it. */
export const JOIN_TOKEN_FILE = "head/join-token";

export interface JoinToken {
  /** What the head knows by its hash. */
  secret: string;
  /** SHA-256 of the head's public key (SubjectPublicKeyInfo), base64url: who may be told. */
  fingerprint: string;
}

/** 24 random bytes in hex: no sign in it that a shell or an option parser could mistake. */
export function newSecret(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("hex");
}

/** `<secret>.<fingerprint>`. */
export function formatJoinToken({ secret, fingerprint }: JoinToken): string {
  return `${secret}.${fingerprint}`;
}

/** Null for text that is no join token, such as one that was cut while copying. */
export function parseJoinToken(text: string): JoinToken | null {
  const match = /^([0-9a-f]{48})\.([A-Za-z0-9_-]{43})$/.exec(text.trim());
  return match ? { secret: match[1] ?? "", fingerprint: match[2] ?? "" } : null;
}
