import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { compatTable, withTable } from "../../scripts/compat-table.ts";
import { ROUTES } from "../../src/proxy/request/routes.ts";

const README = readFileSync(resolve(import.meta.dir, "../../README.md"), "utf8");

test("the README's compatibility table is that of the routes", () => {
  // Otherwise: bun scripts/compat-table.ts
  expect(withTable(README)).toBe(README);
});

test("the table has every route once", () => {
  const table = compatTable();
  for (const path of ROUTES.keys()) {
    expect(table.split(new RegExp(`[\` ]${path}\``)).length).toBe(2);
  }
});

test("a text without the marks is left alone, loudly", () => {
  expect(() => withTable("# x")).toThrow("no lines");
});
