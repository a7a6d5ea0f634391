/** What a worker with a ready engine says about itself. */

import type { EngineReport, Hello } from "../../src/protocol/messages.ts";

export function hello(index: number): Hello {
  return {
    protocol: 1,
    minProtocol: 1,
    version: "0.0.0",
    workerId: `worker-${index}`,
    name: `worker-${index}`,
    nameChosen: false,
    run: `run-${index}`,
    epoch: 1,
    labels: {},
    host: null,
    sentAt: 0,
    data: "auto",
    continues: "",
  };
}

export function engineReport(index: number): EngineReport {
  return {
    engine: "1",
    run: `engine-run-${index}`,
    kind: "vllm",
    state: "READY",
    phase: "",
    reason: "",
    sinceMs: 0,
    port: 8000,
    https: false,
    advertise: "",
    apiKey: "",
    restarts: 0,
    expectedModels: [],
    gpusWanted: 0,
    gpus: [],
    hostHeader: "",
    service: "",
    evidence: [],
    hint: "",
    failure: "",
    phaseMs: 0,
    pid: 0,
    adopted: false,
    container: "",
  };
}
