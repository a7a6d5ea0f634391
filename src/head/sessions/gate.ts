/** Which workers may join: by credential, else by join token; their clocks must be comparable. */

import type { RefusedJoin } from "../../cluster/state/admission.ts";
import type { Hello } from "../../protocol/messages.ts";
import { formatDuration } from "../../util/units.ts";
import type { Credentials } from "./credentials.ts";
import type { JoinTokenCheck, JoinTokens } from "../store/join-tokens.ts";

interface GateOptions {
  joinTokens: JoinTokens;
  credentials: Credentials;
  /** Wall clock, in milliseconds since 1970. */
  now: () => number;
  /** How far apart the clocks of worker and head may be. */
  maxClockDifferenceMs?: number;
}

export interface Shown {
  credential: string | null;
  joinToken: string | null;
}

export type Verdict =
  | {
      allowed: true;
      /** Which models the worker may announce; null: any. */
      models: string | null;
      /**
       * To be called with the worker's name as soon as it has joined. Gives the credential that it
       * must keep from now on, or an empty text where the one that it has stays valid.
       */
      enter: (name: string) => Promise<string>;
    }
  | { allowed: false; refusal: RefusedJoin };

export type Gate = (hello: Hello, shown: Shown) => Verdict;

const SHOW = "get a new one on the head: llmnode join-token show";

export function createGate(options: GateOptions): Gate {
  return (hello, shown) => {
    const verdict = authenticate(options, hello, shown);
    if (!verdict.allowed) return verdict;
    const wrongClock = refuseClock(options, hello);
    return wrongClock ? { allowed: false, refusal: wrongClock } : verdict;
  };
}

function authenticate(options: GateOptions, hello: Hello, shown: Shown): Verdict {
  const { joinTokens, credentials } = options;
  const id = hello.workerId;
  const kept = credentials.get(id);
  const byCredential = shown.credential !== null && credentials.matches(id, shown.credential);
  const token = shown.joinToken === null ? null : joinTokens.check(shown.joinToken);

  if (kept?.forgotten) {
    // Started again with a join token it is wanted; the process that was removed is not.
    const isNew = token?.ok === true && kept.forgotten.run !== hello.run;
    if (!isNew && (byCredential || token?.ok === true)) {
      return refuse(
        "worker_forgotten",
        "an operator has removed this worker (llmnode forget)",
        "to let it join again, stop it and start it with a join token",
      );
    }
  } else if (kept && byCredential) {
    // Another join token than before decides what it may do from now on.
    const other = token?.ok === true && token.id !== kept.tokenId ? token : null;
    const models = other ? other.models : kept.models;
    return {
      allowed: true,
      models,
      async enter(name) {
        const tokenId = other?.id ?? kept.tokenId;
        const counted = other ? joinTokens.use(other.id) : null;
        await Promise.all([counted, credentials.joined(id, { name, models, tokenId })]);
        return "";
      },
    };
  }
  if (token) return byToken(options, { id, token });
  if (shown.credential !== null) {
    return refuse(
      "credential_unknown",
      "this head does not know this worker's credential",
      "join again with a join token: on the head, llmnode join-token show",
    );
  }
  return refuse("join_token_missing", "the worker sent no join token", SHOW);
}

function byToken(
  { joinTokens, credentials }: GateOptions,
  { id, token }: { id: string; token: JoinTokenCheck },
): Verdict {
  const kept = credentials.get(id);
  // The answer to its first try was lost: it joins again with the same token, and counts once.
  const isAgain = kept !== null && !kept.seen && !kept.forgotten && kept.tokenId === token.id;
  if (!token.ok && !(isAgain && token.code === "join_token_used_up")) {
    return refuse(token.code, token.reason, SHOW);
  }
  const tokenId = token.id ?? "";
  const { models } = token;
  return {
    allowed: true,
    models,
    async enter(name) {
      const counted = isAgain ? null : joinTokens.use(tokenId);
      const issued = credentials.issue(id, { name, models, tokenId });
      const [credential] = await Promise.all([issued, counted]);
      return credential;
    },
  };
}

function refuseClock(options: GateOptions, hello: Hello): RefusedJoin | null {
  const here = options.now();
  const most = options.maxClockDifferenceMs ?? 24 * 3_600_000;
  // 0: an unknown clock.
  if (hello.sentAt === 0 || Math.abs(here - hello.sentAt) <= most) return null;
  const apart = formatDuration(Math.abs(here - hello.sentAt));
  return {
    code: "clock_off",
    reason: `the worker's clock says ${instant(hello.sentAt)}, the head's ${instant(here)}: ${apart} apart`,
    hint: "correct the wrong clock, for example: timedatectl set-ntp true",
    retry: false,
  };
}

function instant(at: number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "nothing sensible" : date.toISOString();
}

function refuse(code: RefusedJoin["code"], reason: string, hint: string): Verdict {
  return { allowed: false, refusal: { code, reason, hint, retry: false } };
}
