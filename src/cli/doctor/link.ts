/** Whether a worker could join: the head's key, and what the head says to a join token. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { PROTOCOL, MIN_PROTOCOL, type Refusal } from "../../protocol/messages.ts";
import { dial } from "../../protocol/session-client.ts";
import { verifyHead } from "../../protocol/pin.ts";
import { loadService } from "../../protocol/schema.ts";
import { formatHostPort, type HostPort } from "../../util/host-port.ts";
import { formatDuration } from "../../util/units.ts";
import { type Check, failed, failedBy, notChecked, ok, warning } from "./check.ts";
import type { Shown } from "./trust.ts";

export interface LinkTarget {
  head: HostPort;
  insecure: boolean;
  version: string;
  timeoutMs: number;
}

export const GET_TOKEN =
  "on the head: llmnode join-token show; here: LLMNODE_TOKEN=<join token> llmnode doctor";

/** The check "tls", and what the head that answered is to be shown. */
export async function checkTls(
  { head, insecure, timeoutMs }: LinkTarget,
  shown: readonly Shown[],
): Promise<{ check: Check; trusted: Shown | null }> {
  const name = "tls";
  const at = formatHostPort(head);
  if (insecure) {
    const check = warning(
      name,
      "--insecure: nothing is encrypted, and whatever answers is trusted",
      "start head and workers without --insecure, unless the network is closed",
    );
    return { check, trusted: shown[0] ?? null };
  }
  try {
    const fingerprints = shown.map(({ key }) => key.fingerprint);
    const { fingerprint } = await verifyHead(head, { fingerprints, timeoutMs });
    const check = ok(name, `${at} shows the key that is trusted, ${fingerprint.slice(0, 8)}`);
    return { check, trusted: shown.find(({ key }) => key.fingerprint === fingerprint) ?? null };
  } catch (error) {
    const isUnknown = error instanceof LlmnodeError && error.code === "wrong_fingerprint";
    const check =
      isUnknown && shown.length === 0
        ? warning(
            name,
            `${at} speaks TLS; without a join token its key cannot be checked`,
            GET_TOKEN,
          )
        : failedBy(name, error, "is the head running, and is this its port for workers?");
    return { check, trusted: null };
  }
}

/** What the head said to a hello that cannot be let in, or why it said nothing. */
export type LinkAnswer = { refusal: Refusal } | { silence: string };

/**
 * Shows the head a join token or credential without joining: the hello has a name that no worker
 * may have. The head looks at versions and at what it is shown first, so only what passes both is
 * refused for its name; the head's log then names this test. Never throws.
 */
export async function askLink(target: LinkTarget, shown: Shown): Promise<LinkAnswer> {
  const { promise, resolve } = Promise.withResolvers<LinkAnswer>();
  const session = dial({
    service: loadService(),
    head: target.head,
    tls: !target.insecure,
    keys: [shown.key],
    verifyTimeoutMs: target.timeoutMs,
    onMessage(message) {
      if (message.message === "refusal") resolve({ refusal: message.refusal });
      else if (message.message === "welcome") resolve({ silence: "the head let a test in" });
    },
    onClose: (reason, refusal) => resolve(refusal ? { refusal } : { silence: reason }),
  });
  const timer = setTimeout(
    () => resolve({ silence: `no answer in ${formatDuration(target.timeoutMs)}` }),
    target.timeoutMs,
  );
  session.send({
    message: "hello",
    hello: {
      protocol: PROTOCOL,
      minProtocol: MIN_PROTOCOL,
      version: target.version,
      workerId: shown.workerId ?? "llmnode-doctor",
      name: "llmnode doctor (a test, not a worker)",
      nameChosen: true,
      run: crypto.randomUUID(),
      epoch: 1,
      labels: {},
      host: null,
      sentAt: Date.now(),
      data: "auto",
      continues: "",
    },
  });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    session.drop("looked at");
  }
}

export function tokenVerdict(answer: LinkAnswer, shown: Shown): Check {
  const name = "join token";
  const what = shown.workerId === null ? "join token" : "credential of a worker here";
  if ("silence" in answer) return notChecked(name, answer.silence, "fix what failed above");
  const { code, reason, hint } = answer.refusal;
  if (code === "bad_message") return ok(name, `the head accepts the ${what}`);
  if (code === "version_unsupported") {
    return notChecked(name, "head and this program do not understand each other", "see version");
  }
  return failed(name, `the head refuses the ${what}: ${reason}`, hint || GET_TOKEN);
}

/** The check "version"; `theirs` is null where the head does not tell it. */
export function versionVerdict(
  answer: LinkAnswer | null,
  { ours, theirs }: { ours: string; theirs: string | null },
): Check {
  const name = "version";
  if (answer && "refusal" in answer && answer.refusal.code === "version_unsupported") {
    return failed(name, answer.refusal.reason, answer.refusal.hint || "update the older one");
  }
  if (theirs !== null) {
    if (theirs === ours) return ok(name, `${ours}, as the head`);
    const hint = "update the older one when it suits";
    return warning(name, `${ours} here, ${theirs} at the head`, hint);
  }
  if (answer && "refusal" in answer) {
    return ok(name, `${ours} here; the head understands it (its own it tells on its machine only)`);
  }
  return notChecked(
    name,
    "the head tells it on its own machine, and to who shows a join token",
    "look there: llmnode version",
  );
}
