import { expect, test } from "bun:test";
import { publishedAt, readPublish } from "../../../../src/engine/docker/argv/publish.ts";

test.each([
  ["80", [[null, null, 80]]],
  ["8080:80", [[null, 8080, 80]]],
  ["127.0.0.1:8080:80", [["127.0.0.1", 8080, 80]]],
  ["127.0.0.1::80", [["127.0.0.1", null, 80]]],
  ["[::1]:8080:80/tcp", [["::1", 8080, 80]]],
  ["0.0.0.0:8080:80", [["0.0.0.0", 8080, 80]]],
  [
    "8000-8001:9000-9001",
    [
      [null, 8000, 9000],
      [null, 8001, 9001],
    ],
  ],
  ["8000-8005:9000", [[null, null, 9000]]],
  ["0:80", [[null, 0, 80]]],
  ["53:53/udp", []],
  ["99999:80", [[null, null, 80]]],
  ["x:y", []],
  ["", []],
] as const)("-p %s", (text, expected) => {
  expect(readPublish(text).map((entry) => Object.values(entry))).toEqual(
    expected.map((entry) => [...entry]),
  );
});

test("where a port of the container is reached", () => {
  const publish = ["8080:80", "127.0.0.1:9090:90", "70"].flatMap(readPublish);
  expect(publishedAt(publish, 80)).toEqual({ host: "0.0.0.0", port: 8080 });
  expect(publishedAt(publish, 90)).toEqual({ host: "127.0.0.1", port: 9090 });
  // Any free port: only the tool knows.
  expect(publishedAt(publish, 70)).toBeNull();
  expect(publishedAt(publish, 8000)).toBeNull();
  expect(publishedAt(publish, null)).toBeNull();
  expect(publishedAt(readPublish("8080:80"), null)).toEqual({ host: "0.0.0.0", port: 8080 });
});
