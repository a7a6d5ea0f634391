import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readContainerCommand } from "../../../../src/engine/docker/argv/command.ts";
import { injectMarks } from "../../../../src/engine/docker/argv/inject.ts";

/** Words as a shell would split them; good enough for tables without quotes. */
const words = (line: string) => line.split(" ");
const read = (line: string, env = {}) => {
  const command = readContainerCommand(words(line), env);
  if (command === null) throw new Error(`no container command: ${line}`);
  return command;
};

describe("which words are options, image and arguments", () => {
  test.each([
    ["docker run vllm/vllm-openai --model m", "vllm/vllm-openai", "--model m"],
    ["docker run --rm -it -p 8000:8000 img:1 serve -p 9", "img:1", "serve -p 9"],
    ["docker container run --gpus all img", "img", ""],
    ["docker --context far -H tcp://x:1 run -dit img", "img", ""],
    ["docker --log-level=debug run --detach=true --name=x img a", "img", "a"],
    ["docker run -ditp 80:80 img", "img", ""],
    ["docker run -p80:80 -eA=b -v/a:/b img", "img", ""],
    ["docker run -- img --rm", "img", "--rm"],
    ["docker run --init --read-only --privileged --no-healthcheck img", "img", ""],
    ["docker run --sig-proxy=false --pull always --health-cmd x img", "img", ""],
    ["sudo docker run img", "img", ""],
    ["sudo -u root /usr/bin/docker run img", "img", ""],
    ["env CUDA=1 nohup docker run img a b", "img", "a b"],
    ["podman run --replace --rmi --device nvidia.com/gpu=all img x", "img", "x"],
    ["podman --remote --url tcp://x run --tls-verify=false --systemd true img", "img", ""],
    ["podman container run --userns keep-id --read-only-tmpfs img", "img", ""],
    ["nerdctl -n k8s.io run --gpus all -d img y", "img", "y"],
    ["nerdctl --address /run/c.sock --debug run --snapshotter soci img", "img", ""],
    ["nerdctl.lima run --rm img", "img", ""],
  ])("%s", (line, image, args) => {
    const command = read(line);
    expect(command.image).toBe(image);
    expect(command.args.join(" ")).toBe(args);
  });

  test.each([
    ["vllm serve m"],
    ["docker"],
    ["docker run"],
    ["docker run --rm"],
    ["docker run -p 80:80"],
    ["docker ps"],
    ["docker exec c vllm serve m"],
    ["docker start -a c"],
    ["docker compose up"],
    ["kubectl run img"],
    ["mydocker run img"],
  ])("not one: %s", (line) => {
    expect(readContainerCommand(words(line))).toBeNull();
  });

  test("a line for a shell is none: nothing could be added to it", () => {
    expect(readContainerCommand(["bash", "-c", "docker run img"])).toBeNull();
  });
});

test("the call is kept for later calls: wrappers, program, its options", () => {
  expect(read("sudo -n docker --context far container run img").prefix).toEqual([
    ...["sudo", "-n", "docker", "--context", "far"],
  ]);
});

test("what the options say", () => {
  const line =
    "docker run -d --rm --name n --gpus device=0 --shm-size 8g --ipc=host --restart always -e A=1 " +
    "-e HF_TOKEN -e EMPTY= --env B=x=y -v /m:/models:ro -v cache:/root/.cache --mount " +
    "type=bind,source=/a,target=/data --network host -p 1:2 --cidfile f --entrypoint sh img";
  expect(read(line, { HF_TOKEN: "hf_x" })).toMatchObject({
    tool: "docker",
    detached: true,
    rm: true,
    name: "n",
    gpus: "device=0",
    hasGpu: true,
    shmSize: "8g",
    ipcHost: true,
    restart: "always",
    env: { A: "1", HF_TOKEN: "hf_x", EMPTY: "", B: "x=y" },
    mounts: ["/models", "/root/.cache", "/data"],
    network: "host",
    hostNetwork: true,
    publish: [{ hostIp: null, hostPort: 1, containerPort: 2 }],
    cidfile: "f",
    entrypoint: "sh",
  });
  expect(read("docker run img")).toMatchObject({
    ...{ detached: false, rm: false, name: null, gpus: null, hasGpu: false, shmSize: null },
    ...{ ipcHost: false, restart: null, env: {}, mounts: [], network: null, publish: [] },
    ...{ cidfile: null, entrypoint: null, publishAll: false, hostNetwork: false },
  });
});

test.each([
  ["--device nvidia.com/gpu=all", true],
  ["--device /dev/kfd --device /dev/dri", true],
  ["--runtime nvidia", true],
  ["--runtime=nvidia", true],
  ["--privileged", true],
  ["--device /dev/fuse", false],
  ["--privileged=false", false],
])("GPUs reach it: %s is %p", (options, expected) => {
  expect(read(`docker run ${options} img`).hasGpu).toBe(expected);
});

test("the last of a repeated option counts, and false is off", () => {
  const command = read("docker run -d --detach=false --rm --rm=false --network a --network b img");
  expect(command).toMatchObject({ detached: false, rm: false, network: "b" });
});

const MARKS = { workerId: "w", engineId: "e", commandHash: "h", cidfile: "/s/engine.cid" };
const LABELS = "--label llmnode.worker=w --label llmnode.engine=e --label llmnode.command=h";

describe("marks go between run and the image; all else stays", () => {
  test.each([
    ["docker run img", `docker run --cidfile /s/engine.cid ${LABELS} img`],
    [
      "sudo docker --context c container run --rm -p 1:2 img -it --rm",
      `sudo docker --context c container run --cidfile /s/engine.cid ${LABELS} --rm -p 1:2 img -it --rm`,
    ],
    ["docker run --cidfile mine img", `docker run ${LABELS} --cidfile mine img`],
    ["docker run -it --rm img", `docker run --cidfile /s/engine.cid ${LABELS} --rm img`],
    ["docker run -dit img", `docker run --cidfile /s/engine.cid ${LABELS} -d img`],
    ["docker run -itp 80:80 img", `docker run --cidfile /s/engine.cid ${LABELS} -p 80:80 img`],
    [
      "docker run --interactive --tty=true -t=false img",
      `docker run --cidfile /s/engine.cid ${LABELS} img`,
    ],
    [
      "docker run -e t -w i --name it img",
      `docker run --cidfile /s/engine.cid ${LABELS} -e t -w i --name it img`,
    ],
  ])("%s", (before, after) => {
    const argv = words(before);
    expect(injectMarks(argv, read(before), MARKS).join(" ")).toBe(after);
  });

  test("whatever the options and arguments are, the image and what follows it are untouched", () => {
    const option = fc.constantFrom(
      "-d",
      "--rm",
      "-it",
      "-p 1:2",
      "-e A=b",
      "--gpus all",
      "-itv /a:/b",
    );
    const argument = fc.stringMatching(/^[-a-z=:]{1,12}$/);
    fc.assert(
      fc.property(fc.array(option), fc.array(argument), (options, args) => {
        const argv = ["docker", "run", ...options.flatMap(words), "img", ...args];
        const command = readContainerCommand(argv);
        if (command === null) throw new Error("not read");
        const marked = injectMarks(argv, command, MARKS);
        expect(marked.slice(-args.length - 1)).toEqual(["img", ...args]);
        const again = readContainerCommand(marked);
        expect(again).toMatchObject({ image: "img", args, tty: false, cidfile: MARKS.cidfile });
        expect(again?.publish).toEqual(command.publish);
        expect(again?.detached).toBe(command.detached);
        expect(again?.mounts).toEqual(command.mounts);
      }),
    );
  });
});
