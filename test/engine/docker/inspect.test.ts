import { expect, test } from "bun:test";
import { addressesOf, isAlive, readInspect } from "../../../src/engine/docker/inspect.ts";

const ID = "80bccb37c2e2fb7cabf9a29b44758b7a1dd5bde321026ef4bfc6747059aaa7aa";

/** As docker 20.10 and 28 give it, shortened. */
function inspected(more: Record<string, unknown> = {}): string {
  const entry = {
    Id: ID,
    Name: "/sleepy_roentgen",
    State: { Status: "running", Running: true, OOMKilled: false, Pid: 996, ExitCode: 0, Error: "" },
    HostConfig: { NetworkMode: "default", AutoRemove: true },
    Config: { Labels: { "llmnode.engine": "e" }, ExposedPorts: { "8000/tcp": {}, "53/udp": {} } },
    NetworkSettings: {
      IPAddress: "172.17.0.2",
      Networks: { bridge: { IPAddress: "172.17.0.2" } },
      Ports: {
        "8000/tcp": [
          { HostIp: "0.0.0.0", HostPort: "32770" },
          { HostIp: "::", HostPort: "32770" },
        ],
        "9000/tcp": [{ HostIp: "10.0.0.1", HostPort: "9000" }],
        "70/tcp": null,
      },
    },
    ...more,
  };
  return JSON.stringify([entry]);
}

function first(more: Record<string, unknown> = {}) {
  const [info] = readInspect(inspected(more));
  if (info === undefined) throw new Error("nothing read");
  return info;
}

test("what a container is and where its ports are", () => {
  expect(first()).toMatchObject({
    id: ID,
    name: "sleepy_roentgen",
    status: "running",
    pid: 996,
    exitCode: 0,
    oomKilled: false,
    labels: { "llmnode.engine": "e" },
    networkMode: "default",
    addresses: ["172.17.0.2"],
    exposed: [8000],
  });
  expect(addressesOf(first(), 8000)).toEqual([{ host: "127.0.0.1", port: 32770 }]);
  expect(addressesOf(first(), 9000)).toEqual([{ host: "10.0.0.1", port: 9000 }]);
  // Not published, or not known: whatever is.
  expect(addressesOf(first(), 70)).toHaveLength(2);
  expect(addressesOf(first(), null)).toHaveLength(2);
});

test("without published ports: its own address, or the host's", () => {
  const own = { NetworkSettings: { Networks: { a: { IPAddress: "10.1.0.2" } }, Ports: {} } };
  expect(addressesOf(first(own), 8000)).toEqual([{ host: "10.1.0.2", port: 8000 }]);
  expect(addressesOf(first(own), null)).toEqual([{ host: "10.1.0.2", port: 8000 }]);
  const host = { HostConfig: { NetworkMode: "host" }, NetworkSettings: { Ports: {} } };
  expect(addressesOf(first(host), 8000)).toEqual([{ host: "127.0.0.1", port: 8000 }]);
  expect(addressesOf(first(host), null)).toEqual([]);
});

test.each([
  ["running", true],
  ["restarting", true],
  ["paused", true],
  ["created", false],
  ["exited", false],
  ["dead", false],
])("%s is alive: %p", (Status, expected) => {
  expect(isAlive(first({ State: { Status } }))).toBe(expected);
});

test.each([
  [""],
  ["[]"],
  ["Error: No such object: x"],
  ["[{}]"],
  ["[null]"],
  ["{"],
  ['{"Id":"x"}'],
])("nothing is read from %p", (json) => {
  expect(readInspect(json)).toEqual([]);
});

test("fields of a wrong kind count as not there", () => {
  const info = first({ State: "?", NetworkSettings: { Ports: [1] }, Config: null, Name: 5 });
  expect(info).toMatchObject({ status: "", pid: 0, published: [], labels: {}, name: "" });
});
