import { expect, test } from "bun:test";
import {
  projectName,
  readComposeCommand,
} from "../../../../src/engine/docker/argv/compose-command.ts";

const read = (line: string, env = {}) => readComposeCommand(line.split(" "), env, "llmnode-w");

test.each([
  ["docker compose up", "docker compose -p llmnode-w up"],
  ["docker compose -f a.yaml -f b.yaml up", "docker compose -p llmnode-w -f a.yaml -f b.yaml up"],
  ["docker compose -p mine up web", "docker compose -p mine up web"],
  ["docker compose --project-name=mine up", "docker compose --project-name=mine up"],
  [
    "sudo docker --context c compose up --build",
    "sudo docker --context c compose -p llmnode-w up --build",
  ],
  ["docker compose up -d --wait --wait-timeout 10 web", "docker compose -p llmnode-w up web"],
  ["docker-compose -f x up --scale a=2", "docker-compose -p llmnode-w -f x up --scale a=2"],
  ["podman-compose up", "podman-compose -p llmnode-w up"],
  ["nerdctl compose --profile gpu up", "nerdctl compose -p llmnode-w --profile gpu up"],
])("%s", (line, up) => {
  expect(read(line)?.up.join(" ")).toBe(up);
});

test("what belongs to it: the tool, the project, the words of later calls", () => {
  expect(read("sudo docker-compose -f x up -d")).toMatchObject({
    tool: "docker",
    prefix: ["sudo", "docker"],
    compose: ["sudo", "docker-compose", "-p", "llmnode-w", "-f", "x"],
    project: "llmnode-w",
    leftOut: ["-d"],
  });
  expect(read("docker compose up", { COMPOSE_PROJECT_NAME: "env" })?.project).toBe("env");
  expect(projectName("W_1.Host-2")).toBe("llmnode-w_1-host-2");
});

test.each([
  ["docker compose"],
  ["docker compose ps"],
  ["docker compose down"],
  ["docker run up"],
  ["docker-compose run web"],
  ["vllm serve up"],
])("not one: %s", (line) => {
  expect(read(line)).toBeNull();
});
