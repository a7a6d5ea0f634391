import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { compatTable, withTable } from "../../scripts/compat-table.ts";
import { ROUTES } from "../../src/proxy/request/routes.ts";

const PAGE = readFileSync(resolve(import.meta.dir, "../../docs/api.md"), "utf8");

test("the compatibility table in the documents is that of the routes", () => {
  // Otherwise: scripts/run.sh compat-table
  expect(withTable(PAGE)).toBe(PAGE);
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
