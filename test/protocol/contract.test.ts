import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import path from "node:path";
import type { HeadMessage, WorkerMessage } from "../../src/protocol/messages.ts";
import { MAX_MESSAGE_BYTES } from "../../src/protocol/messages.ts";
import { loadService } from "../../src/protocol/schema.ts";

const join = loadService()["Join"];
if (!join) throw new Error("no Join");

const up: WorkerMessage[] = [
  {
    message: "hello",
    hello: {
      protocol: 7,
      minProtocol: 2,
      version: "1.2.3",
      workerId: "w0000000",
      name: "gpu-1",
      nameChosen: true,
      run: "r1",
      epoch: 2 ** 53 - 1,
      labels: { rack: "3", "": "x" },
      host: {
        hostname: "gpu",
        os: "linux",
        arch: "x64",
        cpus: 64,
        memoryBytes: 2 ** 40,
        bootId: "b",
        networkNamespace: "net:[1]",
      },
      sentAt: 1763683200000.5,
      data: "lane",
      continues: "r0",
    },
  },
  {
    message: "engine",
    engine: {
      engine: "1",
      run: "e1",
      kind: "vllm",
      state: "STARTING",
      phase: "load 40%",
      reason: "because",
      sinceMs: 12.5,
      port: 8000,
      https: true,
      loopbackOnly: false,
      advertise: "http://gpu:8000",
      apiKey: "k",
      restarts: 3,
      expectedModels: ["Qwen/Qwen3-8B", "é"],
      evidence: ["Traceback", "CUDA out of memory"],
      hint: "lower --max-model-len",
      failure: "gpu_oom",
      phaseMs: 250.5,
      pid: 4711,
      adopted: true,
      container: "llmnode-demo",
      maxInFlight: 320,
      gpusWanted: 8,
      gpus: ["GPU-1", "GPU-2"],
      hostHeader: "127.0.0.1:11434",
      service: "tts",
    },
  },
  {
    message: "models",
    models: {
      engine: "1",
      run: "e1",
      revision: 9,
      models: [
        { id: "Qwen/Qwen3-8B", parent: "base", maxModelLen: 40960, loaded: false, card: "{}" },
        { id: "only-a-name", parent: "", card: "" },
      ],
      more: true,
    },
  },
  {
    message: "heartbeat",
    heartbeat: {
      sequence: 12,
      host: {
        cpuPercent: 12.5,
        memoryUsedBytes: 2 ** 39,
        memoryBytes: 2 ** 40,
        diskFreeBytes: 2 ** 41,
        netRxBytesPerS: 0,
        netTxBytesPerS: 1.5,
        ageMs: 20,
      },
      gpus: [
        {
          uuid: "MIG-1",
          index: 7,
          name: "NVIDIA H100 80GB HBM3",
          utilizationPercent: 0,
          memoryUsedBytes: 0,
          memoryTotalBytes: 2 ** 36,
          powerWatts: 71.15,
          powerLimitWatts: 700,
          temperatureCelsius: 42,
          unified: true,
          migParent: "GPU-1",
          ageMs: 12.5,
          engineMemoryBytes: 2 ** 30,
        },
        { uuid: "GPU-2", index: 0, name: "", unified: false, migParent: "", ageMs: 0 },
      ],
      gpuProblem: "GPU is lost",
      loads: [
        {
          engine: "1",
          running: 12,
          waiting: 3,
          kvUsage: 0.25,
          prefixHitTokens: 2 ** 40,
          prefixQueryTokens: 2 ** 41,
          sampleAgeMs: 12.5,
          flow: 1e9,
          failedGenerations: 2,
        },
      ],
    },
  },
  { message: "goodbye", goodbye: { left: true, reason: "stopping", deadlineMs: 30000 } },
];

const down: HeadMessage[] = [
  {
    message: "welcome",
    welcome: {
      lanePort: 8094,
      laneKey: "k",
      lanes: 8,
      protocol: 2,
      version: "1.2.3",
      headRun: "h",
      name: "gpu-1",
      heartbeatIntervalMs: 1000,
      staleAfterMs: 5000,
      lostAfterMs: 15000,
      sentAt: 1,
      credential: "secret",
    },
  },
  {
    message: "refusal",
    refusal: { code: "name_in_use", reason: "taken", hint: "another", retry: true },
  },
  {
    message: "heartbeatAck",
    heartbeatAck: { sequence: 12, inFlight: 4, heartbeatIntervalMs: 2000 },
  },
  { message: "openLanes", openLanes: { count: 3 } },
  { message: "drain", drain: { active: true, reason: "operator" } },
  { message: "restartEngine", restartEngine: { engine: "1", reason: "stalled" } },
  { message: "examine", examine: { engine: "1", look: true, ask: true } },
  { message: "notice", notice: { code: "model_not_allowed", text: "not here", hint: "ask" } },
];

/** Without proto-loader's notes on which optional fields are set (`_loaded: "loaded"`). */
function plain(message: object): unknown {
  return JSON.parse(
    JSON.stringify(message, (key, value: unknown) => (key.startsWith("_") ? undefined : value)),
  );
}

test.each(up)("worker message %# round-trips whole", (message) => {
  expect(plain(join.requestDeserialize(join.requestSerialize(message)))).toEqual(message);
});

test.each(down)("head message %# round-trips whole", (message) => {
  expect(plain(join.responseDeserialize(join.responseSerialize(message)))).toEqual(message);
});

/** The messages of the contract with their fields in camelCase, read from its text. */
function contract(): Map<string, string[]> {
  const text = readFileSync(path.join(import.meta.dir, "../../proto/llmnode.proto"), "utf8");
  const messages = new Map<string, string[]>();
  for (const [, name = "", body = ""] of text.matchAll(/^message (\w+) \{\n([\s\S]*?)^\}/gm)) {
    const fields = [...body.matchAll(/^ +(?:[\w<>, ]+ )(\w+) = \d+;/gm)].map(
      (field) => field[1] ?? "",
    );
    messages.set(
      name,
      fields.map((field) => field.replace(/_(\w)/g, (_, c: string) => c.toUpperCase())),
    );
  }
  return messages;
}

test("the samples set every field of every message", () => {
  const messages = contract();
  const seen = new Map<string, Set<string>>();
  const see = (type: string, value: object) => {
    const keys = seen.get(type) ?? new Set();
    for (const key of Object.keys(value)) if (key !== "message") keys.add(key);
    seen.set(type, keys);
  };
  const typeOf: Record<string, string> = { engine: "EngineReport", models: "ModelList" };
  for (const [envelope, samples] of [
    ["WorkerMessage", up],
    ["HeadMessage", down],
  ] as const) {
    for (const sample of samples) {
      see(envelope, sample);
      const name = sample.message;
      const value: unknown = Reflect.get(sample, name);
      if (typeof value !== "object" || value === null) throw new Error(name);
      see(typeOf[name] ?? `${name[0]?.toUpperCase()}${name.slice(1)}`, value);
      const host: unknown = Reflect.get(value, "host");
      const hostType = name === "hello" ? "Host" : "HostTelemetry";
      if (typeof host === "object" && host !== null) see(hostType, host);
      const gpus: unknown = name === "heartbeat" ? Reflect.get(value, "gpus") : null;
      if (Array.isArray(gpus)) for (const gpu of gpus) see("GpuTelemetry", gpu as object);
      const models: unknown = Reflect.get(value, "models");
      if (Array.isArray(models)) for (const model of models) see("Model", model as object);
      const loads: unknown = Reflect.get(value, "loads");
      if (Array.isArray(loads)) for (const load of loads) see("EngineLoad", load as object);
    }
  }
  const sorted = (fields: Iterable<string>) => [...fields].sort();
  for (const [name, fields] of messages) {
    expect([name, sorted(seen.get(name) ?? [])]).toEqual([name, sorted(fields)]);
  }
  expect(messages.size).toBe(20);
});

const varint = (field: number, value: number) => [(field << 3) | 0, value];
const bytes = (field: number, content: number[]) => [(field << 3) | 2, content.length, ...content];

test("an unknown message from a newer peer has no case and breaks nothing", () => {
  expect(join.requestDeserialize(Buffer.from(bytes(15, varint(1, 1))))).toEqual({});
});

test("an unknown field is ignored, the known ones are kept", () => {
  const heartbeat = bytes(4, [...varint(1, 5), ...bytes(14, [1, 2, 3])]);
  expect(join.requestDeserialize(Buffer.from(heartbeat))).toMatchObject({
    message: "heartbeat",
    heartbeat: { sequence: 5, loads: [] },
  });
});

test("an unknown state of an engine arrives as its number", () => {
  const engine = bytes(2, [...bytes(1, [0x31]), ...varint(4, 99)]);
  expect(join.requestDeserialize(Buffer.from(engine))).toMatchObject({
    message: "engine",
    engine: { engine: "1", state: 99 },
  });
});

test("cut and random bytes are refused, not misread", () => {
  const whole = join.requestSerialize(up[0]);
  expect(() => join.requestDeserialize(whole.subarray(0, whole.length - 3))).toThrow();
  expect(whole.length).toBeLessThan(MAX_MESSAGE_BYTES);
});
