/** Makes text from outside safe to print: one line, no escapes, bounded. */

// C0 and C1 controls, DEL, line separators, and the bidirectional controls that can reorder what a
// person reads on a terminal.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;

/** Most text needs no change, and this is how that is seen cheaply. */
const SAFE = /^[!-~](?:[ -~]*[!-~])?$/;

/** One printable line of at most `maxChars` characters; what was cut is marked by "…". */
export function cleanLine(text: string, maxChars = 1000): string {
  if (text.length <= maxChars && SAFE.test(text)) return text;
  const bounded = text.length > maxChars * 8 ? text.slice(0, maxChars * 8) : text;
  const clean = bounded.replace(ANSI, "").replace(UNSAFE, " ").trimEnd();
  return clean.length > maxChars ? `${clean.slice(0, maxChars - 1)}…` : clean;
}

/** "1 request", "3 requests". */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
