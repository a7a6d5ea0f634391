/** What this machine brings along: an engine, docker, NVIDIA's driver, and its limit of open files. */

import { readFileSync } from "node:fs";
import { messageOf } from "../../protocol/errors.ts";
import { probeReady } from "../../engine/ask/probe.ts";
import { askTool } from "../../telemetry/tools.ts";
import { count } from "../../util/text.ts";
import { type Check, failed, notChecked, ok, warning } from "./check.ts";

/** What a head or worker with some thousand streams needs, and what service managers give. */
const DESCRIPTORS_WANTED = 65_535;

/** A model list of any engine is shorter. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export interface ToolSettings {
  timeoutMs: number;
  /** Where programs are looked for. Default: the PATH. */
  path?: string;
}

/** `url` is an origin. */
export async function checkEngine(url: string, timeoutMs: number): Promise<Check> {
  const name = "engine";
  const target = { url, apiKey: null, probeTimeoutMs: timeoutMs, answerMaxBytes: MAX_ANSWER_BYTES };
  // What it is takes several questions.
  const signal = AbortSignal.timeout(timeoutMs * 3);
  try {
    const { kind, models } = await probeReady(target, "generic", signal);
    const names = models.slice(0, 3).map(({ id }) => id);
    const more = models.length > names.length ? ", ..." : "";
    const list = names.length === 0 ? "" : `: ${names.join(", ")}${more}`;
    return ok(name, `${url} is ready: ${kind}, ${count(models.length, "model")}${list}`);
  } catch (error) {
    return failed(
      name,
      `${url}: ${messageOf(error)}`,
      "is it running, done loading, and is this its address?",
    );
  }
}

export async function checkDocker(settings: ToolSettings): Promise<Check> {
  const name = "docker";
  const answer = await askTool(["docker", "version", "--format", "{{.Server.Version}}"], settings);
  if (answer.outcome === "absent") {
    return warning(name, "there is no docker", "needed only for engines in containers");
  }
  if (answer.outcome === "failed") {
    const hint = "does the daemon run, and may this user talk to it? needed only for containers";
    return warning(name, `the daemon does not answer: ${answer.reason}`, hint);
  }
  return ok(name, `the daemon answers, version ${answer.lines[0] ?? "unknown"}`);
}

export async function checkNvidia(settings: ToolSettings): Promise<Check> {
  const name = "nvidia-smi";
  const answer = await askTool(["nvidia-smi", "-L"], settings);
  if (answer.outcome === "absent") {
    return warning(name, "there is no nvidia-smi", "needed only for engines on NVIDIA GPUs");
  }
  if (answer.outcome === "failed") {
    const hint = "is the driver loaded? a GPU that fell off hangs it: dmesg | grep -i xid";
    return warning(name, answer.reason, hint);
  }
  const gpus = answer.lines.filter((line) => /^GPU \d+:/.test(line));
  const first = gpus[0]?.replace(/ \(UUID.*$/, "") ?? "";
  if (gpus.length === 0) {
    return warning(name, "it lists no GPU", "is one given to this machine or container?");
  }
  return ok(name, `${count(gpus.length, "GPU")}, the first is ${first}`);
}

export function checkDescriptors(limits: string = readLimits()): Check {
  const name = "open files";
  const limit = /^Max open files\s+(\d+|unlimited)\s/m.exec(limits)?.[1];
  if (limit === undefined) {
    return notChecked(
      name,
      "this system does not tell",
      `look: ulimit -n, at least ${DESCRIPTORS_WANTED}`,
    );
  }
  if (limit === "unlimited" || Number(limit) >= DESCRIPTORS_WANTED) {
    return ok(name, `${limit} may be open at a time`);
  }
  return warning(
    name,
    `only ${limit} may be open at a time, each stream takes two`,
    `raise it where head or worker is started: ulimit -n ${DESCRIPTORS_WANTED}, or systemd's LimitNOFILE`,
  );
}

function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    // Not Linux.
    return "";
  }
}
