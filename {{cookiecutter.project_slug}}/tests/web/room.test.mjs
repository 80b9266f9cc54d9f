// What the page knows of a room: `node --test tests/web/`.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const SOURCES = join(import.meta.dirname, "..", "..", "src");
const [WEB] = readdirSync(SOURCES).map((name) => join(SOURCES, name, "web")).filter((web) => existsSync(join(web, "room.js")));
const { ROOM_NAME, Room, TYPING_MS, names } = await import(join(WEB, "room.js"));

const said = (id, from, text, more = {}) => ({ type: "send", topic: "room/1", id, from, at: 1, data: { text }, ...more });
const ids = (room) => room.messages.map(({ id }) => id);

test("live messages and pages of history come into one order, each once", () => {
  const room = new Room("1", "alice");
  room.receive(said("9-0", "bob", "c"), 0);
  room.load([said("5-9", "bob", "a"), { type: "joined", user: "bob", id: "5-9" }, said("5-10", "bob", "b"), said("9-0", "bob", "c")]);
  room.receive(said("10-0", "bob", "d"), 0);
  assert.deepEqual(ids(room), ["5-9", "5-10", "9-0", "10-0"]);
  assert.equal(room.receive(said("10-0", "bob", "d"), 0), null);
});

test("without a log messages have no ids, and are in the order in which they came", () => {
  const room = new Room("1", "alice");
  for (const text of ["a", "b", "c"]) assert.equal(room.receive(said(undefined, "bob", text), 0), "message");
  assert.deepEqual(room.messages.map(({ text }) => text), ["a", "b", "c"]);
});

test("without a log what was read on an earlier visit says nothing of what comes now", () => {
  const earlier = new Room("lobby", "alice");
  for (const text of ["one", "two"]) earlier.receive({ type: "send", from: "bob", at: 1, data: { text } }, 0);
  earlier.markRead();
  const later = Date.now() + 2;
  while (Date.now() < later);
  const room = new Room("lobby", "alice", earlier.read);
  room.receive({ type: "send", from: "bob", at: 2, data: { text: "three" } }, 0);
  assert.equal(room.unread, 1);
});

test("one's own message takes the place of the one that was being sent", () => {
  const room = new Room("1", "alice");
  room.sending = [{ key: "k1" }, { key: "k2" }];
  room.receive(said("1-0", "bob", "x", { data: { text: "x", key: "k1" } }), 0);
  assert.equal(room.sending.length, 2, "another's message with the same key is not one's own");
  room.receive(said("2-0", "alice", "x", { data: { text: "x", key: "k1" } }), 0);
  assert.deepEqual(room.sending, [{ key: "k2" }]);
});

test("unread is what others said behind what was read", () => {
  const room = new Room("1", "alice", "2-0");
  room.load([said("1-0", "bob", "a"), said("2-0", "bob", "b"), said("3-0", "alice", "c"), said("4-0", "bob", "d")]);
  assert.equal(room.unread, 1);
  assert.equal(room.markRead(), true);
  assert.equal(room.unread, 0);
  assert.equal(room.markRead(), false);
});

test("typing ends by itself, and with the message", () => {
  const room = new Room("1", "alice");
  const typing = (from) => ({ type: "send", topic: "room/1", from, ephemeral: true, data: { typing: true } });
  assert.equal(room.receive(typing("bob"), 0), "typing");
  assert.equal(room.receive(typing("carol"), 1), "typing");
  assert.equal(room.receive(typing("alice"), 1), null, "one knows that oneself");
  room.receive(said("1-0", "bob", "done"), 2);
  assert.deepEqual([...room.typing.keys()], ["carol"]);
  assert.equal(room.expireTyping(TYPING_MS), false);
  assert.equal(room.expireTyping(TYPING_MS + 1), true);
  assert.equal(room.messages.length, 1, "nothing of it is a message");
});

test("who comes and goes is known once it is known who is there", () => {
  const room = new Room("1", "alice");
  assert.equal(room.receive({ type: "joined", user: "bob" }, 0), null);
  room.members = new Map([["alice", "chat-1"]]);
  assert.equal(room.receive({ type: "joined", user: "bob" }, 0), "members");
  assert.equal(room.receive({ type: "left", user: "alice" }, 0), "members");
  assert.deepEqual([...room.members.keys()], ["bob"]);
});

test("whatever data a client sends becomes a text", () => {
  const room = new Room("1", "alice");
  const data = ["plain", { text: "said" }, { text: 1 }, null, undefined, [1], { toString: "x" }];
  data.forEach((value, index) => room.receive(said(`${index}-0`, "bob", "", { data: value }), 0));
  assert.deepEqual(
    room.messages.map(({ text }) => text),
    ["plain", "said", '{"text":1}', "null", "null", "[1]", '{"toString":"x"}'],
  );
});

test("a room that stays open for days keeps its newest messages", () => {
  const room = new Room("1", "alice");
  room.more = false;
  for (let id = 0; id <= 20; id += 1) room.receive(said(`${id}-0`, "bob", ""), 0);
  room.trim(10);
  assert.equal(room.messages.length, 10);
  assert.equal(room.newest, "20-0");
  assert.equal(room.more, true);
});

test("names of rooms are those that the service takes", () => {
  for (const name of ["a", "room-1", "x".repeat(40)]) assert.match(name, ROOM_NAME);
  for (const name of ["", "A", "-a", "a b", "ä", "a/b", "x".repeat(41), "a\n"]) assert.doesNotMatch(name, ROOM_NAME);
});

test("a list of names is a sentence's", () => {
  assert.equal(names(["a"]), "a");
  assert.equal(names(["a", "b", "c"]), "a, b and c");
  assert.equal(names(["a", "b", "c", "d"]), "a, b and 2 others");
});
