import { expect, test } from "bun:test";
import { createPullReader } from "../../../src/engine/docker/pull.ts";

const phases = (lines: string[]) => {
  const read = createPullReader();
  return lines.map((line) => {
    const progress = read(line);
    return progress && [progress.phase, progress.percent];
  });
};

test("docker's lines: the layers that are there make the percentage", () => {
  const [a, b] = ["4f4fb700ef54", "a3ed95caeb02"];
  expect(
    phases([
      "Unable to find image 'vllm/vllm-openai:latest' locally",
      "latest: Pulling from vllm/vllm-openai",
      `${a}: Pulling fs layer`,
      `${b}: Pulling fs layer`,
      `${a}: Verifying Checksum`,
      `${a}: Download complete`,
      `${a}: Pull complete`,
      `${b}: Pull complete`,
      "Digest: sha256:0123",
      "Status: Downloaded newer image for vllm/vllm-openai:latest",
      "INFO 08-01 engine starts",
    ]),
  ).toEqual([
    ["pull", null],
    ["pull", null],
    ["pull", null],
    ["pull", null],
    null,
    null,
    ["pull", 50],
    ["pull", 100],
    null,
    ["spawn", null],
    null,
  ]);
});

test("podman's and compose's", () => {
  expect(
    phases([
      "Trying to pull docker.io/library/x:latest...",
      "Writing manifest to image destination",
    ]),
  ).toEqual([
    ["pull", null],
    ["spawn", null],
  ]);
  expect(phases([" web Pulling ", " web Pulled "])).toEqual([
    ["pull", null],
    ["spawn", null],
  ]);
});

test("layers without end are not remembered without end", () => {
  const read = createPullReader();
  for (let i = 0; i < 5_000; i += 1) read(`${i.toString(16).padStart(12, "0")}: Pulling fs layer`);
  expect(read("000000000000: Pull complete")?.percent).toBe(0);
});
