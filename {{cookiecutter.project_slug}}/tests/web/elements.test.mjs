// When the page draws: `node --test tests/web/`.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const SOURCES = join(import.meta.dirname, "..", "..", "src");
const [module] = readdirSync(SOURCES).map((name) => join(SOURCES, name, "web", "elements.js")).filter(existsSync);
const { oncePerFrame } = await import(module);

let frames = [];
globalThis.requestAnimationFrame = (draw) => frames.push(draw);
globalThis.cancelAnimationFrame = () => (frames = []);

test("whatever changes before the next frame is drawn once", () => {
  let drawn = 0;
  const update = oncePerFrame(() => (drawn += 1));
  for (let change = 0; change < 100; change += 1) update();
  assert.equal(drawn, 0);
  assert.equal(frames.length, 1);
  frames[0]();
  assert.equal(drawn, 1);
  update();
  frames[0]();
  assert.equal(drawn, 2);
});

test("a page in the background, which gets no frames, is drawn all the same, and once", async () => {
  let drawn = 0;
  await new Promise((done) => {
    const update = oncePerFrame(() => {
      drawn += 1;
      done();
    });
    update();
    update();
  });
  assert.equal(drawn, 1);
  assert.deepEqual(frames, [], "the frame that did not come is not waited for");
});
