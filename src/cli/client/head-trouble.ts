/** Why a head did not answer, in words, with what a person may try next. */

import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { speaksTls } from "../../protocol/pin.ts";
import { isLoopback } from "../../util/host-port.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { DEFAULT_HTTP_PORT } from "../daemon/daemon.ts";
import { tlsFailure } from "./head-tls.ts";

/** Why the head did not answer, with what to try next: `head_unreachable` or `tls_mismatch`. */
export async function unreachable(
  client: { url: string; timeoutMs: number },
  { error, tries, elapsed }: { error: unknown; tries: number; elapsed: number },
): Promise<LlmnodeError> {
  const tls = await tlsTrouble(client.url, error);
  if (tls) {
    const message = `cannot talk to the head at ${client.url}: ${tls.reason}`;
    return new LlmnodeError("tls_mismatch", message, { hints: [tls.hint], cause: error });
  }
  const reason = reasonOf(error, client.timeoutMs);
  const effort = tries === 1 ? "" : `, ${tries} tries in ${formatDuration(elapsed)}`;
  const { hostname, port } = new URL(client.url);
  const here = isLoopback(hostname);
  const local = `127.0.0.1:${port || DEFAULT_HTTP_PORT}`;
  return new LlmnodeError(
    "head_unreachable",
    `cannot reach the head at ${client.url} (${reason}${effort})`,
    {
      hints: [
        here
          ? "is it running?   llmnode head"
          : `is it running?   ssh ${hostname} llmnode status --head ${local}`,
        "other address?   llmnode --head <url> ...   (or LLMNODE_HEAD=<url>)",
      ],
      reason,
      cause: error,
    },
  );
}

/** How long it may take to find out whether a server that hangs up wants TLS. */
const TLS_PROBE_MS = 1000;

/** What is wrong with the encryption, and the next step; null where something else is. */
export async function tlsTrouble(
  url: string,
  error: unknown,
): Promise<{ reason: string; hint: string } | null> {
  const { protocol, hostname, port, host } = new URL(url);
  if (protocol === "https:") return tlsFailure(error);
  // A TLS server hangs up on plain text, as others do for reasons of their own.
  if (systemCode(error) !== "ECONNRESET") return null;
  const address = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) || 80 };
  if (!(await speaksTls(address, TLS_PROBE_MS))) return null;
  return { reason: "it speaks TLS", hint: `by https:   llmnode --head https://${host} ...` };
}

/** A connection that was refused or reset. */
export function isRefusal(error: unknown): boolean {
  return isUnsent(error) || systemCode(error) === "ECONNRESET";
}

/** A connection that never came about. */
export function isUnsent(error: unknown): boolean {
  return ["ConnectionRefused", "ECONNREFUSED"].includes(systemCode(error) ?? "");
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === "TimeoutError") {
    return `no answer in ${formatDuration(timeoutMs)}`;
  }
  const code = systemCode(error);
  if (code === "ConnectionRefused" || code === "ECONNREFUSED") return "connection refused";
  if (code === "ECONNRESET") return "connection reset";
  if (code === "ENOTFOUND" || code === "FailedToResolveHostname" || code === "DNSException") {
    return "no such host";
  }
  return cleanLine(messageOf(error), 200);
}
