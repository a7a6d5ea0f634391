import { expect, test } from "bun:test";
import { type Access, type AccessOptions, createAccess } from "../../../src/head/access/access.ts";
import { createAuthDelay } from "../../../src/head/access/auth-delay.ts";
import { formatKey, newKeyText, parseKey } from "../../../src/head/access/key-text.ts";
import { ACCESS_MODES } from "../../../src/head/access/modes.ts";
import type { Keys } from "../../../src/head/access/keys.ts";
import { type OperatorRoutesOptions, operatorRoutes } from "../../../src/head/admin/routes.ts";
import { type OwnRoutesOptions, ownRoutes } from "../../../src/head/api/own-routes.ts";
import { createRouteTable } from "../../../src/head/http/route-table.ts";
import type { Views } from "../../../src/head/watch/views.ts";
import { viewRoutes } from "../../../src/head/watch/views-api.ts";
import { blockList } from "../../../src/util/address-ranges.ts";
import { newAdminToken } from "../../../src/protocol/head-files.ts";
import { KEY_ROLES, type KeyRole, NO_LIMITS } from "../../../src/protocol/caller.ts";

const ADMIN = newAdminToken();
const KEYS = new Map(KEY_ROLES.map((role) => [role, formatKey(newKeyText())]));
const keyOf = (role: KeyRole) => KEYS.get(role) ?? "";
const PUBLIC = "203.0.113.9";
const LAN = "10.0.0.9";
const HERE = "127.0.0.1";

function access(more: Partial<AccessOptions> & { size?: number } = {}): Access {
  const { size = 3, ...rest } = more;
  const check: Keys["check"] = (text) => {
    const role = KEY_ROLES.find((one) => keyOf(one) === text);
    if (!role || size === 0) return { ok: false, reason: "unknown", message: "unknown" };
    const id = parseKey(text)?.id ?? "";
    const key = { id, name: role, role, models: null, limits: NO_LIMITS, allows: () => true };
    return { ok: true, key };
  };
  return createAccess({
    keys: { size, check } as Keys,
    isAdmin: (text) => text === ADMIN,
    trustedProxies: null,
    delay: createAuthDelay({ now: () => 0 }),
    mode: "auto",
    insecure: false,
    public: { status: false, metrics: false },
    ...rest,
  });
}

interface Asking {
  from?: string;
  headers?: Record<string, string>;
  url?: string;
}

function identityOf(guard: Access, { from = HERE, headers = {}, url }: Asking) {
  const request = new Request(url ?? "http://127.0.0.1:8092/", {
    headers: { host: "127.0.0.1:8092", ...headers },
  });
  return guard.identify(request, from);
}

const bearer = (text: string) => ({ authorization: `Bearer ${text}` });
const TLS = "https://head.example:8092/";

/** What comes of asking for models: null, or the error's code. */
function client(guard: Access, asking: Asking, how = { pinned: false, explained: false }) {
  return guard.client(identityOf(guard, asking), how)?.code ?? null;
}

/** The head's whole table; nothing behind it is called here. */
const ROUTES = [
  ...ownRoutes({} as OwnRoutesOptions),
  ...viewRoutes({} as Views),
  ...operatorRoutes({ guard: {}, membership: {} } as OperatorRoutesOptions),
];
const routesAt = createRouteTable(ROUTES);

function routeOf(what: string) {
  const [method = "", path = ""] = what.split(" ");
  const { pathname, search } = new URL(path, "http://head");
  const route = routesAt(pathname).find(({ methods }) => methods.some((one) => one === method));
  if (!route) throw new Error(`there is no ${what}`);
  return { route, search };
}

function own(guard: Access, what: string, asking: Asking) {
  const { route, search } = routeOf(what);
  return guard.own(identityOf(guard, asking), route, search)?.code ?? null;
}

test.each([
  [HERE, null],
  [LAN, null],
  ["::ffff:192.168.1.1", null],
  ["100.64.3.4", null],
  ["fd00::1", null],
  [PUBLIC, "key_missing"],
  ["2001:db8::1", "key_missing"],
] as const)("without any key %s gets: %s", (from, code) => {
  const none = access({ size: 0 });
  expect(client(none, { from })).toBe(code);
  expect(client(none, { from, headers: bearer("test-token") })).toBe(code);
  expect(client(access({ size: 0, mode: "private" }), { from })).toBe(code);
  expect(client(access({ size: 0, mode: "open" }), { from })).toBeNull();
  expect(client(access({ size: 0, mode: "keys" }), { from })).toBe("key_missing");
  // From the first key on it is all the same where somebody is, unless a mode says otherwise.
  expect(client(access(), { from })).toBe("key_missing");
  expect(client(access({ mode: "keys" }), { from })).toBe("key_missing");
  expect(client(access({ mode: "private" }), { from })).toBe(code);
  expect(client(access({ mode: "open" }), { from })).toBeNull();
  for (const mode of ACCESS_MODES) {
    expect(client(access({ mode }), { from, headers: bearer(keyOf("user")) })).toBeNull();
  }
});

test("a key that is no good counts where one is needed only", () => {
  const unknown = bearer(formatKey(newKeyText()));
  for (const mode of ACCESS_MODES) {
    const needed = mode === "auto" || mode === "keys";
    const refused = needed ? "key_invalid" : null;
    expect(client(access({ mode }), { from: LAN, headers: unknown })).toBe(refused);
  }
  const outside = { from: PUBLIC, headers: unknown };
  expect(client(access({ mode: "private" }), outside)).toBe("key_invalid");
  expect(client(access({ mode: "open" }), outside)).toBeNull();
});

test("a client without a key may do no more than one with a user's key", () => {
  const how = { pinned: true, explained: false };
  for (const mode of ["private", "open"] as const) {
    expect(client(access({ mode }), { from: LAN }, how)).toBe("key_missing");
    expect(client(access({ mode, size: 0 }), { from: LAN }, how)).toBeNull();
    expect(own(access({ mode }), "GET /api/v1/status", { from: LAN })).toBe("key_missing");
    expect(own(access({ mode }), "GET /v1/models", { from: LAN })).toBeNull();
  }
});

test.each([
  ["an unknown key", bearer(formatKey(newKeyText())), "key_invalid"],
  ["any word", bearer("test-token"), "key_invalid"],
  ["Basic", { authorization: "Basic dTpw" }, "key_missing"],
  ["an empty bearer", { authorization: "Bearer " }, "key_missing"],
  ["no scheme", { authorization: keyOf("user") }, "key_missing"],
  ["two bearers", { authorization: "Bearer a, Bearer b" }, "key_missing"],
  ["a long word", bearer("x".repeat(10_000)), "key_missing"],
  ["a key by the other header", { "x-api-key": keyOf("user") }, null],
  ["a bearer in capitals", { authorization: `BEARER ${keyOf("user")}` }, null],
  ["an empty other header", { ...bearer(keyOf("user")), "x-api-key": "" }, null],
  ["the same twice", { ...bearer(keyOf("user")), "x-api-key": keyOf("user") }, null],
  ["two that differ", { ...bearer(keyOf("user")), "x-api-key": "other" }, "bad_request"],
  ["a proxy's password beside", { authorization: "Basic dTpw", "x-api-key": keyOf("user") }, null],
  ["the admin token", bearer(ADMIN), null],
  ["another head's admin token", bearer(newAdminToken()), "key_invalid"],
] as const)("with keys: %s", (_, headers, code) => {
  expect(client(access(), { from: LAN, headers })).toBe(code);
  // While none is needed whatever clients send is as good as nothing.
  expect(client(access({ size: 0 }), { from: LAN, headers })).toBeNull();
});

test("choosing a worker and asking why need an operator, once there are keys", () => {
  const by = (role: KeyRole) => ({ from: LAN, headers: bearer(keyOf(role)) });
  for (const how of [
    { pinned: true, explained: false },
    { pinned: false, explained: true },
  ]) {
    expect(client(access(), by("user"), how)).toBe("forbidden");
    expect(client(access(), by("viewer"), how)).toBe("forbidden");
    expect(client(access(), by("operator"), how)).toBeNull();
    expect(client(access(), { headers: bearer(ADMIN) }, how)).toBeNull();
    expect(client(access({ size: 0 }), { from: LAN }, how)).toBeNull();
  }
});

const READS = [
  "GET /",
  "GET /metrics",
  "GET /v1/dnt/table",
  "GET /api/v1/status",
  "GET /api/v1/watch",
  "POST /api/v1/watch/abc",
  "GET /api/v1/requests",
  "GET /api/v1/events",
  "GET /api/v1/aliases",
  "GET /api/v1/workers/drains",
  "GET /api/v1/workers/logs",
];
const OPEN = [
  ...["GET /health/live", "GET /health/ready", "GET /health/stream", "GET /v1/realtime"],
  ...["GET /v1/models", "GET /v1/models/a/b", "GET /api/tags", "GET /api/ps"],
  "GET /api/v1/usage",
];
const ACTS = [
  "POST /api/v1/workers/drain",
  "POST /api/v1/workers/restart",
  "POST /api/v1/workers/forget",
  "POST /api/v1/requests/cancel",
  "POST /api/v1/aliases",
  "POST /api/v1/keys",
  "POST /api/v1/keys/revoke",
  "POST /api/v1/join-tokens",
  // These are read, but what they show is a secret or about one.
  "GET /api/v1/join-tokens",
  "GET /api/v1/join-tokens/first",
  "GET /api/v1/keys",
  "GET /api/v1/audit",
];

/** By who asks: what reveals, what changes. */
test.each([
  ["nobody at home", {}, null, "key_missing"],
  ["nobody on the LAN", { from: LAN }, "key_missing", "forbidden"],
  ["nobody by TLS", { from: LAN, url: TLS }, "key_missing", "forbidden"],
  ["a user at home", { headers: bearer(keyOf("user")) }, null, "forbidden"],
  [
    "a user by TLS",
    { from: LAN, url: TLS, headers: bearer(keyOf("user")) },
    "forbidden",
    "forbidden",
  ],
  ["a viewer at home", { headers: bearer(keyOf("viewer")) }, null, "forbidden"],
  ["a viewer on the LAN", { from: LAN, headers: bearer(keyOf("viewer")) }, null, "forbidden"],
  ["an operator at home", { headers: bearer(keyOf("operator")) }, null, null],
  [
    "an operator by TLS",
    { from: PUBLIC, url: TLS, headers: bearer(keyOf("operator")) },
    null,
    null,
  ],
  [
    "an operator by plain HTTP",
    { from: LAN, headers: bearer(keyOf("operator")) },
    null,
    "forbidden",
  ],
  ["the admin token at home", { headers: bearer(ADMIN) }, null, null],
  ["the admin token by plain HTTP", { from: LAN, headers: bearer(ADMIN) }, null, "forbidden"],
  ["a bad key at home", { headers: bearer(formatKey(newKeyText())) }, "key_invalid", "key_invalid"],
  [
    "an operator behind a proxy that is not trusted",
    { headers: { ...bearer(keyOf("operator")), "x-forwarded-for": PUBLIC } },
    null,
    "forbidden",
  ],
  ["nobody behind a proxy", { headers: { via: "1.1 proxy" } }, "key_missing", "forbidden"],
  [
    "a page elsewhere, with the browser's key",
    { headers: { ...bearer(keyOf("operator")), origin: "https://evil.example" } },
    "forbidden",
    "forbidden",
  ],
  [
    "another site's page",
    { headers: { ...bearer(keyOf("operator")), "sec-fetch-site": "cross-site" } },
    "forbidden",
    "forbidden",
  ],
  ["a name that leads here", { headers: { host: "evil.example" } }, "key_missing", "forbidden"],
] as const)("with keys, %s", (_, asking, reads, acts) => {
  for (const what of READS) expect([what, own(access(), what, asking)]).toEqual([what, reads]);
  for (const what of ACTS) expect([what, own(access(), what, asking)]).toEqual([what, acts]);
});

test("before the first key what reveals is for this machine only", () => {
  const none = access({ size: 0 });
  for (const what of READS) {
    expect(own(none, what, {})).toBeNull();
    expect(own(none, what, { headers: bearer("test-token") })).toBeNull();
    expect(own(none, what, { from: LAN })).toBe("forbidden");
    expect(own(none, what, { from: LAN, url: TLS, headers: bearer(ADMIN) })).toBeNull();
  }
  for (const what of ACTS)
    expect(own(none, what, { headers: bearer("test-token") })).not.toBeNull();
});

test("what is for everybody, for clients, and for users", () => {
  for (const path of ["/health/live", "/health/ready", "/health/stream"]) {
    expect(own(access(), `GET ${path}`, { from: PUBLIC })).toBeNull();
  }
  for (const path of ["/v1/models", "/v1/models/a/b", "/api/tags", "/api/ps"]) {
    expect(own(access(), `GET ${path}`, {})).toBe("key_missing");
    expect(own(access(), `GET ${path}`, { headers: bearer(keyOf("user")) })).toBeNull();
    expect(own(access({ size: 0 }), `GET ${path}`, { from: LAN })).toBeNull();
  }
  const usage = "GET /api/v1/usage";
  expect(own(access(), usage, { from: LAN, headers: bearer(keyOf("user")) })).toBeNull();
  expect(own(access(), usage, { from: LAN })).toBe("key_missing");
});

test("options open a part of it, and nothing else", () => {
  const status = access({ public: { status: true, metrics: false } });
  const metrics = access({ public: { status: false, metrics: true } });
  for (const what of READS) {
    const path = what.split(" ")[1] ?? "";
    const isStatus = ["/", "/api/v1/status", "/api/v1/watch"].includes(path);
    expect([what, own(status, what, { from: PUBLIC })]).toEqual([
      what,
      isStatus ? null : "key_missing",
    ]);
    const isMetrics = path === "/metrics";
    expect([what, own(metrics, what, { from: PUBLIC })]).toEqual([
      what,
      isMetrics ? null : "key_missing",
    ]);
  }
  const watch = "GET /api/v1/watch";
  expect(own(status, `${watch}?view=workers&sort=x`, { from: PUBLIC })).toBeNull();
  for (const more of ["view=requests", "view=workers&view=requests", "view=models&detail=gpu-1"]) {
    expect(own(status, `${watch}?${more}`, { from: PUBLIC })).toBe("key_missing");
    expect(own(status, `${watch}?${more}`, {})).toBeNull();
  }
  for (const what of ACTS) {
    expect(own(access({ public: { status: true, metrics: true } }), what, {})).toBe("key_missing");
  }
  const insecure = access({ insecure: true });
  for (const what of ACTS) {
    expect(own(insecure, what, { from: LAN, headers: bearer(ADMIN) })).toBeNull();
    expect(own(insecure, what, { from: LAN })).not.toBeNull();
  }
});

test("behind a trusted proxy the client's address counts, and the proxy's word on TLS", () => {
  const guard = access({ size: 0, trustedProxies: blockList(["10.0.0.1"]) });
  const via = (forwarded: Record<string, string>, from = "10.0.0.1") => ({
    from,
    headers: { ...forwarded },
  });
  expect(client(guard, via({ "x-forwarded-for": PUBLIC }))).toBe("key_missing");
  expect(client(guard, via({ "x-forwarded-for": `127.0.0.1, ${LAN}` }))).toBeNull();
  expect(client(guard, via({ "x-forwarded-for": PUBLIC }, "10.0.0.2"))).toBeNull();
  const admin = { ...bearer(ADMIN), "x-forwarded-for": PUBLIC, "x-forwarded-proto": "https" };
  expect(own(guard, "POST /api/v1/keys", via(admin))).toBeNull();
  expect(own(guard, "POST /api/v1/keys", via(admin, "10.0.0.2"))).toBe("forbidden");
  // To a browser its address is that of the proxy.
  const page = (origin: string) => via({ ...admin, host: "llm.example", origin });
  expect(own(guard, "POST /api/v1/keys", page("https://llm.example"))).toBeNull();
  expect(own(guard, "POST /api/v1/keys", page("http://llm.example"))).toBe("forbidden");
  // A proxy on this machine makes nobody a person on this machine.
  const here = access({ size: 0, trustedProxies: blockList(["127.0.0.1"]) });
  const forged = via({ "x-forwarded-for": "127.0.0.1" }, HERE);
  expect(own(here, "GET /api/v1/status", forged)).toBe("forbidden");
});

test("all that is not named here is for operators, and a path not in the table is nothing", () => {
  const named = new Set([...READS, ...OPEN].map((what) => routeOf(what).route));
  const others = ROUTES.filter((route) => !named.has(route));
  expect(others.length).toBeGreaterThan(10);
  expect(others.filter(({ audience }) => audience !== "operator")).toEqual([]);
  for (const pathname of ["/api/v1/new", "/api/v2/status", "/v1/dnt/table/x", "/health", "//"]) {
    expect([pathname, routesAt(pathname)]).toEqual([pathname, []]);
  }
});

test("no two routes are at the same path with the same method, and what is opened only reads", () => {
  const all = ROUTES.flatMap(({ path, methods }) => methods.map((method) => `${method} ${path}`));
  expect(new Set(all).size).toBe(all.length);
  const opened = ROUTES.filter(({ openedBy }) => openedBy !== undefined);
  expect(opened.filter(({ methods }) => methods.includes("POST"))).toEqual([]);
});

test("failures are counted by their reason", () => {
  const reasons: string[] = [];
  const guard = access({ onFailure: (reason) => void reasons.push(reason) });
  client(guard, {});
  client(guard, { headers: bearer("x") });
  client(guard, { headers: { ...bearer("x"), "x-api-key": "y" } });
  own(guard, "POST /api/v1/keys", { headers: bearer(keyOf("user")) });
  client(guard, { headers: bearer(keyOf("user")) });
  expect(reasons).toEqual(["missing", "unknown", "conflicting", "not_allowed"]);
});
