/** The written form of API keys: `sk-ln-<id>-<secret>`. */

// The beginning is that of OpenAI's keys, so that what looks for leaked keys finds these too.
const PREFIX = "sk-ln-";
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_CHARS = 12;
/** 62^40: 238 bits. */
const SECRET_CHARS = 40;
const FORM = /^sk-ln-([0-9A-Za-z]{8,32})-([0-9A-Za-z]{32,128})$/;

export interface KeyText {
  id: string;
  secret: string;
}

export function newKeyText(): KeyText {
  return { id: randomText(ID_CHARS), secret: randomText(SECRET_CHARS) };
}

export function formatKey({ id, secret }: KeyText): string {
  return `${PREFIX}${id}-${secret}`;
}

/** Null for what is no key of any head. */
export function parseKey(text: string): KeyText | null {
  if (!text.startsWith(PREFIX)) return null;
  const found = FORM.exec(text);
  return found && { id: found[1] ?? "", secret: found[2] ?? "" };
}

/** Bytes beyond the last whole multiple of 62 are thrown away: each character is as likely. */
function randomText(length: number): string {
  let text = "";
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      if (byte < 248 && text.length < length) text += ALPHABET[byte % 62];
    }
  }
  return text;
}
