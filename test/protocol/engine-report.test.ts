import { expect, test } from "bun:test";
import {
  type EngineReport,
  readReport,
  showReport,
  SHOWN_FACTS,
  unknownReport,
  type WireEngineReport,
  writeReport,
} from "../../src/protocol/engine-report.ts";

const NOW = 1_000_000;
const KNOWN: EngineReport = {
  run: "r1",
  kind: "vllm",
  state: "starting",
  phase: "load 40%",
  reason: "because",
  stateSince: NOW - 12_500,
  port: 8000,
  https: true,
  loopbackOnly: false,
  advertise: "http://gpu:8000",
  apiKey: "a-secret",
  restarts: 3,
  expectedModels: ["Qwen/Qwen3-8B"],
  evidence: ["Traceback"],
  hint: "lower --max-model-len",
  failure: "gpu_oom",
  phaseSince: NOW - 250,
  pid: 4711,
  adopted: true,
  container: "llmnode-demo",
  maxInFlight: 320,
  gpusWanted: 8,
  gpus: ["GPU-1", "GPU-2"],
  hostHeader: "127.0.0.1:11434",
  service: null,
};

test("what is known, and what is not, arrives as it was, by the clock of who reads it", () => {
  const later = (report: EngineReport, ms: number) => ({
    ...report,
    stateSince: report.stateSince + ms,
    phaseSince: report.phaseSince === null ? null : report.phaseSince + ms,
  });
  for (const report of [KNOWN, unknownReport(NOW)]) {
    expect(readReport(writeReport("1", report, NOW), NOW)).toEqual(report);
    expect(readReport(writeReport("1", report, NOW), NOW + 7000)).toEqual(later(report, 7000));
  }
});

test.each<[string, Partial<WireEngineReport>, Partial<EngineReport>]>([
  ["text that a terminal obeys", { reason: "a\u001b[31mb\nc" }, { reason: "ab c" }],
  ["long text", { failure: "x".repeat(100) }, { failure: `${"x".repeat(31)}…` }],
  ["a port that there is not", { port: 70_000 }, { port: null }],
  ["an age that is no number", { sinceMs: Number.NaN }, { stateSince: NOW }],
  ["an age below zero", { sinceMs: -5 }, { stateSince: NOW }],
  ["a header in a Host", { hostHeader: "a\r\nb: c" }, { hostHeader: null }],
  ["a service that is no part of a path", { service: "../x" }, { service: null }],
  ["models of a service", { service: "tts", expectedModels: ["m"] }, { expectedModels: [] }],
  ["names that cannot be shown", { expectedModels: ["a\nb", "", "m"] }, { expectedModels: ["m"] }],
  ["a phase that is over", { phase: "", phaseMs: 5 }, { phaseSince: null }],
  ["a state of a newer worker", { state: 99 }, { state: "unhealthy" }],
  ["a key without end", { apiKey: "k".repeat(9000) }, { apiKey: null }],
  [
    "more evidence than is kept",
    { evidence: Array.from({ length: 20 }, (_, i) => String(i)) },
    { evidence: ["12", "13", "14", "15", "16", "17", "18", "19"] },
  ],
])("%s becomes sound", (_what, wire, expected) => {
  const report = { ...writeReport("1", unknownReport(NOW), NOW), ...wire };
  expect(readReport(report, NOW)).toMatchObject(expected);
});

test("what is shown has names of its own, ages in place of instants, and no secret", () => {
  const shown = showReport(KNOWN, NOW);
  expect(Object.keys(shown)).toEqual([...SHOWN_FACTS]);
  expect(shown).toMatchObject({ state_ms: 12_500, phase_ms: 250, gpu_uuids: ["GPU-1", "GPU-2"] });
  expect(JSON.stringify(shown)).not.toContain("a-secret");
});
