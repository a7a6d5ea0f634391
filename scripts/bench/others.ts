/** The relays of other projects, set up to do no more than relay, on one core. */

import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Children } from "./children.ts";
import type { Target } from "./targets.ts";

/** The npm gateway that is compared with, and the version that the figures are about. */
const PORTKEY = "@portkey-ai/gateway@1.15.2";
const SGLANG = { name: "sglang", project: "sglang-router", version: "0.3.2" } as const;
const VLLM = { name: "vllm", project: "vllm-router", version: "0.1.17" } as const;
const INSTALL_LIMIT_MS = 180_000;

export interface OtherOptions {
  children: Children;
  workplace: string;
  enginePort: number;
  withPortkey: boolean;
  withRouters: boolean;
}

/** Each returns the running relay, or why there is none. */
export type StartOther = (options: OtherOptions) => Promise<Target | string>;

export const startNginx: StartOther = async ({ children, workplace, enginePort }) => {
  const program = Bun.which("nginx");
  if (program === null) return "nginx: not installed";
  const port = freePort();
  const cwd = join(workplace, "nginx");
  mkdirSync(cwd);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  writeFileSync(
    join(cwd, "nginx.conf"),
    `daemon off;
master_process off;
pid ${cwd}/nginx.pid;
error_log stderr error;
events { worker_connections 16384; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${cwd}/${name};`).join("\n  ")}
  client_max_body_size 64m;
  client_body_buffer_size 2m;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  upstream engine {
    server 127.0.0.1:${enginePort};
    keepalive 4096;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }
  }
}
`,
  );
  const argv = [program, "-p", cwd, "-c", join(cwd, "nginx.conf"), "-e", "stderr"];
  const { pid } = children.start({ name: "nginx", argv, place: "relay", cwd });
  return { name: "nginx", port, headers: {}, pid };
};

export const startHaproxy: StartOther = async ({ children, workplace, enginePort }) => {
  const program = Bun.which("haproxy");
  if (program === null) return "HAProxy: not installed";
  const port = freePort();
  const cwd = join(workplace, "haproxy");
  mkdirSync(cwd);
  writeFileSync(
    join(cwd, "haproxy.cfg"),
    `global
  maxconn 8192
  nbthread 1
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend clients
  bind 127.0.0.1:${port} backlog 4096
  default_backend engine
backend engine
  http-reuse always
  server engine 127.0.0.1:${enginePort}
`,
  );
  const argv = [program, "-db", "-f", join(cwd, "haproxy.cfg")];
  const { pid } = children.start({ name: "HAProxy", argv, place: "relay", cwd });
  return { name: "haproxy", port, headers: {}, pid };
};

export const startPortkey: StartOther = async (options) => {
  if (!options.withPortkey) return "portkey: only with --with-portkey (fetched by npm)";
  const node = Bun.which("node");
  const npm = Bun.which("npm");
  if (node === null || npm === null) return "portkey: needs node and npm";
  const folder = join(tmpdir(), "llmnode-bench-cache", PORTKEY.replace(/[^\w.-]+/g, "-"));
  const program = join(folder, "node_modules/@portkey-ai/gateway/build/start-server.js");
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    const install = Bun.spawn([npm, "install", "--prefix", folder, ...quiet, PORTKEY], {
      stdio: ["ignore", "ignore", "inherit"],
      timeout: INSTALL_LIMIT_MS,
    });
    if ((await install.exited) !== 0) return "portkey: npm could not install it";
  }
  const port = freePort();
  const { pid } = options.children.start({
    name: "portkey",
    argv: [node, program, `--port=${port}`, "--headless"],
    place: "relay",
    cwd: options.workplace,
    env: { NODE_ENV: "production", TRUSTED_CUSTOM_HOSTS: "127.0.0.1,localhost" },
  });
  const headers = {
    authorization: "Bearer none",
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${options.enginePort}/v1`,
  };
  return { name: "portkey", port, headers, pid };
};

export const startSglang: StartOther = (options) => startRouter(options, SGLANG);
export const startVllm: StartOther = (options) => startRouter(options, VLLM);

/** Routers in Rust that come as Python packages: one is a fork of the other, with like options. */
async function startRouter(
  { children, workplace, enginePort, withRouters }: OtherOptions,
  router: typeof SGLANG | typeof VLLM,
): Promise<Target | string> {
  const { name, project } = router;
  if (!withRouters) return `${project}: only with --with-routers (fetched by pip)`;
  const python = Bun.which("python3");
  if (python === null) return `${project}: needs python3`;
  const folder = await pythonPackage(python, router);
  if (folder === null) return `${project}: pip could not install it`;
  const [port, metricsPort] = [freePort(), freePort()];
  const { pid } = children.start({
    name: project,
    argv: [
      ...[python, "-m", `${name}_router.launch_router`, "--host", "127.0.0.1"],
      ...["--port", String(port), "--prometheus-port", String(metricsPort)],
      ...["--worker-urls", `http://127.0.0.1:${enginePort}`, "--policy", "round_robin"],
      ...["--max-concurrent-requests", "100000", "--log-level", "error"],
    ],
    place: "relay",
    cwd: workplace,
    env: { PYTHONPATH: folder },
  });
  return { name, port, headers: {}, pid };
}

/** The folder of the package and what it needs, or null where it cannot be fetched. */
async function pythonPackage(
  python: string,
  { project, version }: { project: string; version: string },
): Promise<string | null> {
  const folder = join(tmpdir(), "llmnode-bench-cache", `${project}-${version}`);
  if (existsSync(folder)) return folder;
  // Whole or not at all: an install that was cut short would be taken for one.
  const partial = `${folder}.partial`;
  rmSync(partial, { recursive: true, force: true });
  const uv = Bun.which("uv");
  const pip = uv === null ? [python, "-m", "pip"] : [uv, "pip"];
  const quiet = ["--quiet", "--only-binary", ":all:", "--target", partial];
  const install = Bun.spawn([...pip, "install", ...quiet, `${project}==${version}`], {
    stdio: ["ignore", "ignore", "inherit"],
    timeout: INSTALL_LIMIT_MS,
  });
  if ((await install.exited) !== 0) return null;
  renameSync(partial, folder);
  return folder;
}

/** One that is free now; programs that cannot take port 0 and say what they got need it. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
