/** The least that a relay on this runtime can be; what ours is compared with. */

const engine = process.argv[2] ?? "";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  idleTimeout: 0,
  async fetch(request) {
    const path = request.url.slice(request.url.indexOf("/", 7));
    const upstream = await fetch(`${engine}${path}`, {
      method: request.method,
      headers: request.headers,
      body: await request.bytes(),
      decompress: false,
      timeout: false,
      proxy: false,
    } as RequestInit & BunFetchRequestInit);
    return new Response(upstream.body, { status: upstream.status, headers: upstream.headers });
  },
});

process.stdout.write(`bare relay on port ${server.port}\n`);
