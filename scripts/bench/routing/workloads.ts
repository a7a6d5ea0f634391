/** What the routing benchmark sends: made conversations by a seed, or a trace from a file. */

import { readFileSync } from "node:fs";
import type { SimPrompt } from "./engine.ts";

export interface Turn {
  /** Tokens that the client adds, and those that the answer adds to its next prompt. */
  userTokens: number;
  outTokens: number;
  /** How long the client thinks after the answer before. */
  thinkS: number;
}

export interface Conversation {
  startS: number;
  /** What others begin with as well: who shares it, and how long it is. */
  shared: { id: number; tokens: number };
  turns: readonly Turn[];
  /** Of a trace: the blocks as they are named there, for its only turn. */
  blocks?: readonly number[];
  /** Names the conversation. */
  id: number;
}

export interface Workload {
  name: string;
  /** Names the engines' speeds; 1 is that of the engine model. */
  speeds: readonly number[];
  blockTokens: number;
  conversations: readonly Conversation[];
}

export type Random = () => number;

/** The same sequence for the same seed, on every machine; source: mulberry32. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const ENGINES = 8;
const EVEN: readonly number[] = Array.from({ length: ENGINES }, () => 1);
const BLOCK = 64;

interface Shape {
  perS: number;
  turns: [least: number, most: number];
  firstTokens: [number, number];
  userTokens: [number, number];
  outTokens: [number, number];
  thinkS: [number, number];
  /** How many have each a beginning of their own that their requests share, and how long it is. */
  tenants: number;
  sharedTokens: number;
}

const CHAT: Shape = {
  perS: 6,
  turns: [4, 8],
  firstTokens: [1000, 3000],
  userTokens: [100, 500],
  outTokens: [150, 450],
  thinkS: [2, 15],
  tenants: 1,
  sharedTokens: 500,
};

const SINGLE: Shape = { ...CHAT, turns: [1, 1], thinkS: [0, 0] };

const SHAPES: readonly (readonly [name: string, shape: Shape, speeds: readonly number[]])[] = [
  ["multi-turn chat, heavy", CHAT, EVEN],
  ["multi-turn chat, overload", { ...CHAT, perS: 8 }, EVEN],
  [
    "chat, 2 of 8 at half speed",
    { ...CHAT, perS: 5 },
    EVEN.map((speed, i) => (i < 2 ? speed / 2 : speed)),
  ],
  [
    "150 tenants, 6k prefix each",
    {
      ...SINGLE,
      perS: 30,
      tenants: 150,
      sharedTokens: 6000,
      firstTokens: [100, 300],
      outTokens: [600, 600],
    },
    EVEN,
  ],
  [
    "one shared 6k prompt, 40/s",
    { ...SINGLE, perS: 40, sharedTokens: 6000, firstTokens: [100, 300], outTokens: [100, 300] },
    EVEN,
  ],
  ["no reuse", { ...SINGLE, perS: 25, sharedTokens: 0, firstTokens: [500, 3500] }, EVEN],
];

export function madeWorkloads(seconds: number, seed: number): Workload[] {
  return SHAPES.map(([name, shape, speeds], i) => ({
    name,
    speeds,
    blockTokens: BLOCK,
    conversations: makeConversations(shape, seconds, seeded(seed + i)),
  }));
}

function makeConversations(shape: Shape, seconds: number, random: Random): Conversation[] {
  const made: Conversation[] = [];
  const between = ([least, most]: [number, number]) => least + random() * (most - least);
  const whole = (range: [number, number]) => Math.round(between(range));
  for (let at = 0; ;) {
    at -= Math.log(1 - random()) / shape.perS;
    if (at > seconds) return made;
    const turns = Array.from({ length: whole(shape.turns) }, (_, i) => ({
      userTokens: whole(i === 0 ? shape.firstTokens : shape.userTokens),
      outTokens: whole(shape.outTokens),
      thinkS: between(shape.thinkS),
    }));
    const tenant = Math.floor(random() * shape.tenants);
    made.push({
      startS: at,
      id: made.length,
      shared: { id: tenant, tokens: shape.sharedTokens },
      turns,
    });
  }
}

/** Mooncake's format: a JSON object a line, blocks of 512 tokens named with what is before them. */
const TRACE_BLOCK = 512;

/** `speed`: how much faster than it was recorded. Throws on lines that are something else. */
export function readTrace(path: string, { speed }: { speed: number }): Workload {
  const lines = readFileSync(path, "utf8").split("\n").filter(Boolean);
  const conversations = lines.map((line, id) => {
    const {
      timestamp,
      input_length: tokens,
      output_length: outTokens,
      hash_ids: blocks,
    } = traceLine(line, id + 1);
    return {
      startS: timestamp / 1000 / speed,
      id,
      shared: { id: 0, tokens: 0 },
      turns: [{ userTokens: tokens, outTokens: Math.max(1, outTokens), thinkS: 0 }],
      blocks,
    };
  });
  conversations.sort((a, b) => a.startS - b.startS);
  const name = `trace ${path.split("/").at(-1) ?? ""}, ${speed} times as fast`;
  return { name, speeds: EVEN, blockTokens: TRACE_BLOCK, conversations };
}

interface TraceLine {
  timestamp: number;
  input_length: number;
  output_length: number;
  hash_ids: number[];
}

function traceLine(line: string, number: number): TraceLine {
  const read = JSON.parse(line) as Partial<TraceLine>;
  const { timestamp, input_length, output_length, hash_ids } = read;
  if (
    typeof timestamp !== "number" ||
    typeof input_length !== "number" ||
    typeof output_length !== "number" ||
    !Array.isArray(hash_ids)
  ) {
    throw new Error(`line ${number} is no request: ${line.slice(0, 80)}`);
  }
  return { timestamp, input_length, output_length, hash_ids };
}

/** Room for the blocks of one conversation in the numbers that name them. */
const BLOCKS_EACH = 4096;

/** A conversation's prompt at one turn, and where its messages end, in tokens. */
export function promptAt(
  conversation: Conversation,
  turn: number,
  blockTokens: number,
): { prompt: SimPrompt; messageEnds: number[] } {
  const { shared, turns, id, blocks: named } = conversation;
  let tokens = shared.tokens;
  const messageEnds = shared.tokens > 0 ? [tokens] : [];
  for (let i = 0; i <= turn; i += 1) {
    tokens += turns[i]?.userTokens ?? 0;
    messageEnds.push(tokens);
    if (i === turn) break;
    tokens += turns[i]?.outTokens ?? 0;
    messageEnds.push(tokens);
  }
  if (named) return { prompt: { tokens, blocks: named }, messageEnds };
  const blocks: number[] = [];
  const own = (id + 1) * BLOCKS_EACH * 1024;
  for (let at = 0; at * blockTokens < tokens; at += 1) {
    const isShared = (at + 1) * blockTokens <= shared.tokens;
    blocks.push((isShared ? shared.id * BLOCKS_EACH : own) + at);
  }
  return { prompt: { tokens, blocks }, messageEnds };
}
