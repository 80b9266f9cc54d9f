// Drives a session for a test in another language: a line of JSON, [method, ...arguments], for each call and answer.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const SOURCES = join(import.meta.dirname, "..", "..", "src");
const [module] = readdirSync(SOURCES).map((name) => join(SOURCES, name, "web", "session.js")).filter(existsSync);
const { ClientSession } = await import(module);

let session;
for await (const line of createInterface({ input: process.stdin })) {
  const [method, ...args] = JSON.parse(line);
  let result = null;
  if (method === "new") session = new ClientSession();
  else result = typeof session[method] === "function" ? session[method](...args) : session[method];
  process.stdout.write(`${JSON.stringify(result ?? null)}\n`);
}
