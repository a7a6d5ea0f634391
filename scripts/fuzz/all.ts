/** The fuzzers there are, in the order of a run. */

import { answers } from "./answers.ts";
import { clients } from "./clients.ts";
import { commandLines, configs } from "./command-lines.ts";
import { commands, engineTalk, shell } from "./engines.ts";
import { forms } from "./forms.ts";
import { laneFrames, sessionMessages } from "./frames.ts";
import type { Fuzzer } from "./fuzzer.ts";
import { gpus } from "./gpus.ts";
import { requests, sessions } from "./heads.ts";
import { json } from "./json.ts";
import { events, lines, streams } from "./streams.ts";
import { words } from "./words.ts";

export const FUZZERS: readonly Fuzzer[] = [
  requests,
  sessions,
  clients,
  answers,
  json,
  forms,
  streams,
  events,
  lines,
  laneFrames,
  sessionMessages,
  commands,
  shell,
  engineTalk,
  gpus,
  commandLines,
  configs,
  words,
];
