/** The relays of other projects, set up to do no more than relay, on one core. */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Children } from "./children.ts";
import type { Target } from "./targets.ts";

/** The npm gateway that is compared with, and the version that the figures are about. */
const PORTKEY = "@portkey-ai/gateway@1.15.2";
const INSTALL_LIMIT_MS = 120_000;

export interface OtherOptions {
  children: Children;
  workplace: string;
  enginePort: number;
  withPortkey: boolean;
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

/** One that is free now; programs that cannot take port 0 and say what they got need it. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
