/** Finds top-level members of a JSON object in its bytes, without building the object. */

import { type Name, Names } from "./names.ts";
import { JsonScanError, QUOTE, readString } from "./tokens.ts";
import { COLON, JsonWalk, LONG_STRING_BYTES, OPEN_ARRAY } from "./walk.ts";

/** Where the value of a member lies: `bytes.subarray(start, end)`. */
export interface Span {
  start: number;
  end: number;
}

/** A member of the object: its name and its value. */
export interface Member extends Span {
  readonly name: string;
  /** Where its name begins, with its quote. */
  readonly nameStart: number;
  /** The commas around it; -1: there is none. */
  commaBefore: number;
  commaAfter: number;
  /** Where elements of an array end, if that was asked for; short ones are told with the next. */
  readonly elementEnds: readonly number[];
  /** How many of its bytes are those of pictures and sounds, beyond what each counts as. */
  readonly dataBytes: number;
}

/** An object that was scanned. */
export interface ScannedObject {
  /** Where its opening brace is. */
  readonly open: number;
  readonly isEmpty: boolean;
  /** The last member of that name, which is the one that counts, as with `JSON.parse`. */
  get(name: string): Member | undefined;
}

const BACKSLASH = 0x5c;
const SPACE = 0x20;
const LINE_FEED = 0x0a;

/** Ends of elements closer than this are told with the next one: there may be millions. */
const MIN_ELEMENT_BYTES = 64;
/** Ends are told so far into a value: a list of all of them would be long to make and to keep. */
export const MAX_WALKED_BYTES = 4 * 1024 * 1024;
/** What a picture counts as: some thousand tokens, whatever its size. */
const DATA_COUNTS_BYTES = LONG_STRING_BYTES;
/** Blanks that are looked through between `"data"` and its value. */
const MAX_DATA_BLANKS = 16;
/** What is longer is not blanked out in one go. */
const MAX_BLANKED_BYTES = 64 * 1024;

const NO_ENDS: readonly number[] = [];

/**
 * A scan of one object, which can stop anywhere and go on. It remembers the wanted members alone,
 * of those with one name the last; of walked ones it tells the ends of elements too.
 */
export class ObjectScan extends JsonWalk implements ScannedObject {
  open = 0;
  readonly #names: Names;
  readonly #single: string | null;
  readonly #found: Member[] = [];
  #count = 0;
  /** Of the member at hand. */
  #name: Name | null = null;
  #nameStart = 0;
  #start = 0;
  #commaBefore = -1;
  #ends: number[] | null = null;
  #lastEnd = 0;
  #dataBytes = 0;
  /** The member that ended last, if it was wanted. */
  #ended: Member | null = null;

  /** Of the name `single` only the last member stays in the text; others are blanked out. */
  constructor(bytes: Uint8Array, names: Names, single: string | null = null) {
    super(bytes);
    this.#names = names;
    this.#single = single;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get(name: string): Member | undefined {
    for (const member of this.#found) if (member.name === name) return member;
    return undefined;
  }

  /** Blanks a member out, with the comma that goes with it: nothing else moves. */
  blank(member: Member): void {
    const { bytes } = this;
    bytes.fill(SPACE, member.nameStart, member.end);
    const comma = member.commaAfter === -1 ? member.commaBefore : member.commaAfter;
    if (comma !== -1) bytes[comma] = SPACE;
    this.#found.splice(this.#found.indexOf(member), 1);
    this.#count -= 1;
  }

  protected override onOpen(at: number): void {
    this.open = at;
  }

  protected override onName(start: number, end: number): void {
    this.#count += 1;
    this.#nameStart = start;
    this.#name = this.#names.find(this.bytes, start, end);
  }

  protected override onValue(at: number): void {
    this.#start = at;
    this.#lastEnd = at;
    const isWalked = this.#name?.isWalked === true && this.bytes[at] === OPEN_ARRAY;
    this.#ends = isWalked ? [] : null;
    this.#dataBytes = 0;
  }

  protected override onElementEnd(at: number): void {
    if (this.#ends === null || at - this.#lastEnd < MIN_ELEMENT_BYTES) return;
    if (at - this.#start > MAX_WALKED_BYTES) return;
    this.#ends.push(at);
    this.#lastEnd = at;
  }

  protected override onLongString(start: number, end: number): void {
    if (isData(this.bytes, start)) this.#dataBytes += end - start - DATA_COUNTS_BYTES;
  }

  protected override onValueEnd(end: number): void {
    if (this.#name === null) return;
    const member: Member = {
      name: this.#name.text,
      nameStart: this.#nameStart,
      start: this.#start,
      end,
      commaBefore: this.#commaBefore,
      commaAfter: -1,
      elementEnds: this.#ends ?? NO_ENDS,
      dataBytes: this.#dataBytes,
    };
    this.#ended = member;
    const before = this.get(member.name);
    if (before === undefined) this.#found.push(member);
    else if (member.name === this.#single) this.#keepSingle(before, member);
    else this.#found[this.#found.indexOf(before)] = member;
  }

  protected override onComma(at: number): void {
    this.#commaBefore = at;
    if (this.#ended !== null) this.#ended.commaAfter = at;
    this.#ended = null;
  }

  /** The one that counts no longer goes at once: to remember where all are would take memory. */
  #keepSingle(before: Member, member: Member): void {
    if (before.end - before.nameStart > MAX_BLANKED_BYTES) {
      throw new JsonScanError(`a second ${JSON.stringify(member.name)}`, member.nameStart);
    }
    this.blank(before);
    // The comma between both may be gone: then the one before both goes with this one.
    if (member.commaBefore === before.commaAfter) member.commaBefore = before.commaBefore;
    this.#found.push(member);
  }
}

/** Whether a string is a picture or a sound: a URL `"data:...`, or a member `"data": "...`. */
function isData(bytes: Uint8Array, quote: number): boolean {
  if (spells(bytes, quote + 1, "data:")) return true;
  const colon = skipBlanksBack(bytes, quote - 1);
  if (bytes[colon] !== COLON) return false;
  const end = skipBlanksBack(bytes, colon - 1);
  return spells(bytes, end - 5, '"data"') && bytes[end - 6] !== BACKSLASH;
}

function skipBlanksBack(bytes: Uint8Array, from: number): number {
  let at = from;
  while (from - at < MAX_DATA_BLANKS && (bytes[at] === SPACE || bytes[at] === LINE_FEED)) at -= 1;
  return at;
}

function spells(bytes: Uint8Array, from: number, text: string): boolean {
  for (let i = 0; i < text.length; i += 1) {
    if (bytes[from + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** Scans an object in one go. Throws JsonScanError. */
export function scanObject(bytes: Uint8Array, names: Names): ScannedObject {
  const scan = new ObjectScan(bytes, names);
  scan.run();
  return scan;
}

/** The value of a span that holds a string, or null when it holds something else. */
export function stringAt(bytes: Uint8Array, { start, end }: Span): string | null {
  return bytes[start] === QUOTE ? readString(bytes, start, end) : null;
}
