// The page's chat, against a server that says what a test has it say: `node --test tests/web/`.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test as run } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const SOURCES = join(import.meta.dirname, "..", "..", "src");
const [WEB] = readdirSync(SOURCES).map((name) => join(SOURCES, name, "web")).filter((web) => existsSync(join(web, "chat.js")));
const { Chat } = await import(join(WEB, "chat.js"));
const { Client, OtherUser } = await import(join(WEB, "client.js"));

const IN_TIME_MS = 10_000;
const soon = () => Array(100).fill(0.001).values();

// The server

let sockets;
let answers; // what a request is answered with, by its type; null for nothing
let listed; // the rooms that there are
let endings; // what ends the clients of a test

class FakeSocket {
  said = []; // by the client
  #closed = false;

  constructor() {
    sockets.push(this);
  }

  accept() {
    this.onopen();
  }

  welcome(user) {
    this.tell({ type: "welcome", conn_id: "1", worker: "chat-1", user });
  }

  tell(fields) {
    if (!this.#closed) this.onmessage({ data: JSON.stringify(fields) });
  }

  cut() {
    this.#closed = true;
    this.onclose({ code: 1006, reason: "" });
  }

  send(text) {
    const request = JSON.parse(text);
    this.said.push(request);
    const answer = request.ref && answers[request.type]?.(request);
    if (answer) setImmediate(() => this.tell({ ...answer, ref: request.ref }));
  }

  close() {
    this.#closed = true;
  }
}

beforeEach(() => {
  sockets = [];
  listed = { rooms: [], more: false };
  endings = [];
  answers = {
    subscribe: ({ topic }) => ({ type: "subscribed", topic, position: "1-0", epoch: "1", recovered: false }),
    unsubscribe: ({ topic }) => ({ type: "unsubscribed", topic }),
    history: () => ({ type: "history", messages: [], more: false }),
    presence: () => ({ type: "presence", members: [{ user: "alice", worker: "chat-1" }], total: 1 }),
    send: () => ({ type: "ack", id: "9-0" }),
  };
  globalThis.WebSocket = FakeSocket;
  globalThis.fetch = async () => ({ ok: true, status: 200, json: async () => ({ ...listed, username: "alice" }) });
});

// The clock of a chat ticks for as long as the page is there: here, for as long as the test.
const { setInterval: tickForever } = globalThis;
globalThis.setInterval = (...args) => tickForever(...args).unref();

const { random } = Math;
afterEach(async () => {
  Math.random = random;
  await Promise.all(endings.map((end) => end()));
});

async function until(condition, what) {
  const deadline = performance.now() + IN_TIME_MS;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `not in time: ${what}`);
    await sleep(2);
  }
}

const test = (name, play) => run(name, { timeout: 2 * IN_TIME_MS }, play);

/** The connection of this number, from 0. The server says that it is `user`'s. */
async function connection(number, user) {
  await until(() => sockets.length > number, `connection ${number}`);
  sockets[number].accept();
  sockets[number].welcome(user);
  return sockets[number];
}

/** A client of alice's, and the promise that it is connected. */
function clientOfAlice(options = {}) {
  const client = new Client("ws://localhost/ws", { user: "alice", backoff: soon, ...options });
  endings.push(() => client.close());
  return { client, connected: client.connect() };
}

/** A chat of alice's, in the lobby, and its events. */
async function chatOfAlice() {
  const chat = new Chat("alice", "ws://localhost/ws", () => assert.fail("the cookie is fresh"));
  const events = [];
  for (const type of ["change", "notice", "other user"]) {
    chat.addEventListener(type, ({ detail }) => events.push({ type, detail }));
  }
  chat.start();
  endings.push(() => chat.stop());
  const socket = await connection(0, "alice");
  await until(() => events.some(({ detail }) => detail?.what === "joined"), "in the lobby");
  return { chat, socket, events, lobby: chat.rooms.get("lobby") };
}

const asked = (socket, type) => socket.said.filter((request) => request.type === type);
const message = (id, text) => ({ type: "send", topic: "room/lobby", id, from: "bob", at: 1, data: { text } });

// Under whose name

test("nothing is said before the server has named the user, and all of it then", async () => {
  const { client, connected } = clientOfAlice();
  const sending = client.send("room/1", "mine");
  await until(() => sockets.length === 1, "a connection");
  sockets[0].accept();
  assert.deepEqual(sockets[0].said, []);
  sockets[0].welcome("alice");
  await connected;
  assert.equal(await sending, "9-0");
});

test("nothing is said on the connection of another user, and the client ends", async () => {
  const states = [];
  const { client, connected } = clientOfAlice({ onState: (...change) => states.push(change) });
  const first = await connection(0, "alice");
  await connected;
  answers.send = () => null;
  const sending = assert.rejects(client.send("room/1", "alice's"), OtherUser);
  first.cut();
  const second = await connection(1, "bob");
  await sending;
  assert.deepEqual(second.said, []);
  assert.deepEqual(states.map(([state]) => state), ["open", "reconnecting", "closed"]);
  const [, ended] = states.at(-1);
  assert.ok(ended instanceof OtherUser);
  assert.equal(ended.user, "bob");
  await assert.rejects(client.send("room/1", "too late"), /takes this client for bob, not for alice/);
});

test("the page is told that somebody else signed in", async () => {
  const { chat, socket, events, lobby } = await chatOfAlice();
  answers.send = () => null;
  chat.send(lobby, "alice's");
  socket.cut();
  const second = await connection(1, "bob");
  await until(() => events.some(({ type }) => type === "other user"), "told");
  assert.deepEqual(second.said, []);
});

// Older messages

test("a hole while older messages load begins the loading anew", async () => {
  const { chat, socket, lobby } = await chatOfAlice();
  answers.history = () => null;
  lobby.load([message("5-0", "before the hole")]);
  lobby.more = true;
  chat.older(lobby);
  socket.cut();
  answers.history = ({ before }) => ({
    type: "history",
    messages: { "5-0": [message("4-0", "long before it")], "90-0": [] }[before] ?? [message("90-0", "behind the hole")],
    more: before === undefined,
  });
  const second = await connection(1, "alice");
  await until(() => asked(second, "history").length === 3, "the old request, and two new ones");
  await until(() => lobby.loading === null, "loaded");
  assert.deepEqual(asked(second, "history").map(({ before }) => before), ["5-0", undefined, "90-0"]);
  assert.deepEqual(lobby.messages.map(({ text }) => text), ["behind the hole"]);
});

test("older messages that are refused for a fault are asked for again with the next scroll", async () => {
  const { chat, socket, events, lobby } = await chatOfAlice();
  answers.history = () => ({ type: "error", code: "internal_error", detail: "something broke" });
  lobby.more = true;
  events.length = 0;
  await chat.older(lobby);
  assert.equal(lobby.more, true);
  assert.deepEqual(events, [{ type: "notice", detail: "lobby: Something broke." }], "to draw would be to scroll");
  const before = asked(socket, "history").length;
  await chat.older(lobby);
  assert.equal(asked(socket, "history").length, before + 1);
});

test("where nothing is stored there are no older messages", async () => {
  const { chat, events, lobby } = await chatOfAlice();
  answers.history = () => ({ type: "error", code: "not_allowed", detail: "this service stores no messages" });
  lobby.more = true;
  events.length = 0;
  await chat.older(lobby);
  assert.equal(lobby.more, false);
  assert.deepEqual(events.map(({ type, detail }) => [type, detail.what]), [["change", "history"]]);
});

// Who is here

test("many who join at once are looked for once", async () => {
  Math.random = () => 0; // all in the same moment
  const { chat, socket } = await chatOfAlice();
  const before = asked(socket, "presence").length;
  const join = (user) => socket.tell({ type: "joined", topic: "room/lobby", user });
  for (let number = 0; number < 50; number += 1) join(`user-${number}`);
  await until(() => asked(socket, "presence").length > before, "looked for");
  await new Promise((done) => setImmediate(done));
  assert.equal(asked(socket, "presence").length, before + 1);
  join("later");
  await until(() => asked(socket, "presence").length === before + 2, "looked for again");
});

// Rooms that are announced

const announce = (socket, name) =>
  socket.tell({ type: "send", topic: "rooms", from: "bob", ephemeral: true, data: { name } });

test("only rooms that were asked for are added to the list", async () => {
  const { chat, socket } = await chatOfAlice();
  listed = { rooms: ["reading"], more: false };
  await chat.find("re");
  const none = ["design", undefined, null, ["real"], { name: "real" }, "Red", "re/d"];
  for (const name of [...none, "red", "red"]) announce(socket, name);
  await until(() => chat.known.rooms.length > 1, "a room more");
  announce(socket, "rest");
  await until(() => chat.known.rooms.includes("rest"), "all are heard");
  assert.deepEqual(chat.known.rooms, ["reading", "red", "rest"]);
});

test("a flood of announcements leaves a hundred rooms, and says that there are more", async () => {
  const { chat, socket } = await chatOfAlice();
  for (let number = 0; number < 1_000; number += 1) announce(socket, `invented-${number}`);
  await until(() => chat.known.more, "too many");
  assert.equal(chat.known.rooms.length, 100);
  announce(socket, "one-more");
  await new Promise((done) => setImmediate(done));
  assert.equal(chat.known.rooms.length, 100);
});
