// The client in JavaScript, against real workers behind a network that fails: `node --test tests/web/`.
//
// The client on asyncio passes the same tests, by the same names: tests/integration/test_client.py. The workers come
// from tests/client_stage.py, started with $PYTHON.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test as run } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const ROOT = join(import.meta.dirname, "..", "..");
const SOURCES = join(ROOT, "src");
const [WEB] = readdirSync(SOURCES).map((name) => join(SOURCES, name, "web")).filter((web) => existsSync(join(web, "client.js")));
const { Client, ConnectionEnded, InvalidToken, RequestRefused, delays } = await import(join(WEB, "client.js"));

const IN_TIME_MS = 10_000;
const UNLOGGED = 2; // the worker that stores nothing

// The stage

let process_;
let address;

before(async () => {
  const PYTHONPATH = [SOURCES, ROOT].join(delimiter);
  const command = [process.env.PYTHON ?? "python3", ["-m", "tests.client_stage"]];
  process_ = spawn(...command, { cwd: ROOT, env: { ...process.env, PYTHONPATH }, stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  address = (await lines.next()).value;
  assert.ok(address, "the stage did not start");
});

after(() => process_.stdin.end());

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${address}/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

/** Run a test on a new stage, whose methods are those of `Stage` in tests/client_stage.py. */
async function onStage(options, play) {
  const { name, url } = await call("", options);
  const methods = { get: (_, method) => (...args) => (method === "then" ? undefined : call(`${name}/${method}`, args)) };
  const stage = new Proxy({}, { get: (target, key) => (key === "then" ? undefined : methods.get(target, key)) });
  const clients = [];
  /** A client that does not wait long before it comes back. */
  const open = async (more = {}) => {
    const client = new Client(url, { token: await stage.token(), backoff: soon, ...more });
    clients.push(client);
    if (more.connect !== false) await client.connect();
    return client;
  };
  try {
    await play(stage, open);
  } finally {
    await Promise.all(clients.map((client) => client.close()));
    await stage.stop();
  }
}

const soon = () => delays(0.005, 0.05);

async function until(condition, what = "") {
  const deadline = performance.now() + IN_TIME_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not in time: ${what}`);
    await sleep(2);
  }
}

async function inTime(promise, what = "") {
  const timer = new AbortController();
  const late = sleep(IN_TIME_MS, null, { signal: timer.signal }).then(() => assert.fail(`not in time: ${what}`));
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
    late.catch(() => {});
  }
}

/** The data of the next messages. */
async function take(messages, number) {
  const taken = [];
  while (taken.length < number) taken.push((await inTime(messages.next(), `${taken.length} of ${number}`)).value.data);
  return taken;
}

const range = (start, end) => Array.from({ length: end - start }, (_, index) => start + index);
const numerically = (one, other) => one - other;

/** Random numbers that come again with the seed (mulberry32). */
function chance(seed) {
  let state = seed;
  return (low, high) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return low + ((high - low) * ((mixed ^ (mixed >>> 14)) >>> 0)) / 2 ** 32;
  };
}

const test = (name, play) => run(name, { timeout: 2 * IN_TIME_MS }, play);

// The tests

test("each message comes once and in order over random cuts", () =>
  onStage({}, async (it, open) => {
    const random = chance(5);
    const client = await open();
    const sender = await open({ token: await it.token(600, "bob") });
    const room = await client.subscribe("room/1");
    const cut = async () => {
      for (const _ of range(0, 20)) {
        await sleep(random(20, 60));
        await it.cut();
      }
    };
    const send = async () => {
      for (const number of range(0, 200)) await sender.send("room/1", `sent ${number}`);
    };
    const published = it.publish_slowly("room/1", range(0, 1_800).map((number) => `published ${number}`), 0.8);
    const [received] = await Promise.all([take(room, 2_000), published, cut(), send()]);
    assert.deepEqual(received, await it.stored("room/1"));
    assert.deepEqual(received.filter((data) => data.startsWith("sent")), range(0, 200).map((number) => `sent ${number}`));
    assert.ok((await it.accepted()) > 20);
  }));

test("a cut in the middle of what was missed loses nothing", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    const room = await client.subscribe("room/1");
    await it.down();
    await it.publish("room/1", range(0, 2_000).map((number) => String(number).padStart(500)));
    await it.up();
    const received = await take(room, 1);
    for (const _ of range(0, 3)) {
      await it.cut();
      received.push(...(await take(room, 200)));
    }
    received.push(...(await take(room, 2_000 - received.length)));
    assert.deepEqual(received.map(Number), range(0, 2_000));
  }));

test("overlapping subscriptions get every message once each over cuts", () =>
  onStage({}, async (it, open) => {
    const random = chance(6);
    const client = await open();
    const one = await client.subscribe("room/1");
    const allRooms = await client.subscribe("room/+");
    const taking = Promise.all([take(one, 200), take(allRooms, 400)]);
    for (let start = 0; start < 200; start += 20) {
      await it.publish_in_turn(["room/1", "room/2"], range(start, start + 20));
      if (start % 40 === 0) await it.cut();
      await sleep(random(0, 50));
    }
    const [ofOne, ofAll] = await taking;
    assert.deepEqual(ofOne, range(0, 200));
    assert.deepEqual(ofAll, range(0, 200).flatMap((number) => [number, number]));
  }));

test("a send whose ack was lost is stored once", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    await client.subscribe("room/1");
    await it.lose_answers();
    let answered = false;
    const sending = Promise.all(range(0, 3).map((number) => client.send("room/1", number)));
    sending.then(() => (answered = true));
    await it.until_stored("room/1", [0, 1, 2]);
    assert.ok(!answered);
    await it.cut();
    const positions = await inTime(sending);
    assert.deepEqual(await it.stored("room/1"), [0, 1, 2]);
    assert.deepEqual(positions, (await client.history("room/1")).messages.map(({ id }) => id));
  }));

test("what is sent while there is no connection arrives in order", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    await it.down();
    await until(() => client.state === "reconnecting");
    const sending = Promise.all(range(0, 50).map((number) => client.send("room/1", number)));
    await it.up();
    await inTime(sending);
    assert.deepEqual(await it.stored("room/1"), range(0, 50));
  }));

test("a drain notice moves the client within its window", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    const room = await client.subscribe("room/1");
    const [first] = await it.connected_to();
    const { random } = Math;
    try {
      Math.random = () => 0.01;
      await it.drain(["chat-1", "chat-2"].indexOf(first), 60);
      await it.publish("room/1", range(0, 10));
      await until(async () => ![undefined, first].includes((await it.connected_to())[0]), "moved to the other worker");
      await it.publish("room/1", range(10, 20));
      assert.deepEqual(await take(room, 20), range(0, 20));
      assert.notEqual(client.welcome.worker, first);
    } finally {
      Math.random = random;
    }
  }));

test("a close code that forbids to come back ends the client and says why", async () => {
  for (const [code, reason] of [[1008, "not allowed"], [4500, "too many connections of this user"]]) {
    await onStage({}, async (it, open) => {
      const client = await open();
      const room = await client.subscribe("room/1");
      await it.publish("room/1", ["the last one"]);
      assert.deepEqual(await take(room, 1), ["the last one"]);
      await it.close(code);
      await assert.rejects(take(room, 1), (error) => {
        assert.ok(error instanceof ConnectionEnded);
        assert.match(error.message, new RegExp(`${code} ${reason}`));
        assert.equal(error.closeCode, code);
        return true;
      });
      assert.equal(client.state, "closed");
      await assert.rejects(client.send("room/1", "too late"), { message: new RegExp(reason) });
      assert.equal(await it.accepted(), 1);
    });
  }
});

test("a close code that allows to come back costs nothing", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    const room = await client.subscribe("room/1");
    for (const [number, code] of [1012, 1013, 4001, 1011].entries()) {
      await it.close(code);
      await it.publish("room/1", [number]);
      assert.deepEqual(await take(room, 1), [number]);
    }
    assert.equal(await it.accepted(), 5);
  }));

test("an expired token is replaced on the open connection", () =>
  onStage({}, async (it, open) => {
    const lifetimes = [2, 600];
    const client = await open({ token: () => it.token(lifetimes.shift()) });
    const connId = client.welcome.conn_id;
    await until(() => lifetimes.length === 0, "a second token was asked for");
    await sleep(800); // longer than the grace period
    await client.send("room/1", "still here");
    assert.equal(client.welcome.conn_id, connId);
    assert.equal(await it.accepted(), 1);
  }));

test("without a fresh token on the open connection the next handshake asks again", () =>
  onStage({}, async (it, open) => {
    let given = 0;
    const token = () => {
      given += 1;
      if (given === 2) throw new Error("the source of tokens has a bad moment");
      return it.token(given === 1 ? 2 : 600);
    };
    const client = await open({ token });
    await until(() => given === 3 && client.state === "open", "a third token, and open");
    await client.send("room/1", "back");
    assert.equal(await it.accepted(), 2);
  }));

test("a handshake refused for its token is tried again with a fresh one", () =>
  onStage({}, async (it, open) => {
    const lifetimes = [-10, 600];
    const client = await open({ token: () => it.token(lifetimes.shift()) });
    assert.equal(client.welcome.user, "alice");
    assert.equal(await it.accepted(), 2);
  }));

test("a source of tokens that gives up ends the client", () =>
  onStage({}, async (it, open) => {
    const token = () => {
      throw new InvalidToken("signed out");
    };
    const client = await open({ token, connect: false });
    await assert.rejects(client.connect(), { name: "ConnectionEnded", message: /signed out/ });
    assert.equal(await it.accepted(), 0);
  }));

test("a hole is told with its topic where it is", () =>
  onStage({ retention_messages: 50 }, async (it, open) => {
    const told = [];
    const client = await open({ onHole: (topic) => told.push(topic) });
    const room = await client.subscribe("room/1");
    const quiet = await client.subscribe("other/1");
    await it.publish("room/1", ["before"]);
    await until(() => room.length === 1);
    await it.down();
    await it.until_gone();
    await it.publish("room/1", range(0, 60));
    await it.up();
    await until(async () => (await it.topics()).length === 2, "subscribed again");
    await it.publish("room/1", ["after"]);
    assert.deepEqual(await take(room, 1), ["before"]);
    assert.deepEqual(told, []);
    assert.deepEqual(await take(room, 1), ["after"]);
    assert.deepEqual(told, ["room/1"]);
    await it.publish("other/1", ["of the other shard"]);
    assert.deepEqual(await take(quiet, 1), ["of the other shard"]);
    assert.deepEqual(told, ["room/1"]);
  }));

test("a log that is lost is told while connected", () =>
  onStage({}, async (it, open) => {
    const told = [];
    const client = await open({ onHole: (topic) => told.push(topic) });
    await it.publish("room/1", range(0, 5));
    const room = await client.subscribe("room/1");
    const taking = take(room, 2);
    await it.lose_log();
    await until(() => told.length === 1, "a hole");
    await it.publish("room/1", ["new 1"]);
    assert.equal(await it.accepted(), 1);
    await it.cut();
    await it.publish("room/1", ["new 2"]);
    assert.deepEqual(await taking, ["new 1", "new 2"]);
    assert.deepEqual(told, ["room/1"]);
  }));

test("a pattern over all shards does not resume and says so", () =>
  onStage({}, async (it, open) => {
    const told = [];
    const client = await open({ onHole: (topic) => told.push(topic) });
    const news = await client.subscribe("+/news");
    const topics = range(0, 10).map((number) => `${number}/news`);
    await it.publish_in_turn(topics, ["x"]);
    assert.deepEqual(await take(news, 10), Array(10).fill("x"));
    const taking = take(news, 10);
    await it.cut();
    await until(() => told.length === 1, "a hole");
    await it.publish_in_turn(topics, ["x"]);
    assert.deepEqual(await taking, Array(10).fill("x"));
    assert.deepEqual(told, ["+/news"]);
  }));

test("a service that stores nothing says so after each cut", () =>
  onStage({}, async (it, open) => {
    const told = [];
    await it.lead_to(UNLOGGED);
    const client = await open({ onHole: (topic) => told.push(topic) });
    const room = await client.subscribe("room/1");
    assert.equal(await client.send("room/1", "first"), null);
    assert.deepEqual(await take(room, 1), ["first"]);
    const taking = take(room, 1);
    await it.cut();
    await until(() => told.length === 1, "a hole");
    await client.send("room/1", "second");
    assert.deepEqual(await taking, ["second"]);
    await assert.rejects(client.history("room/1"), { name: "RequestRefused", message: /stores no messages/ });
  }));

test("what is refused for now is asked for again", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    await it.busy(3);
    const room = await client.subscribe("room/1");
    await it.busy(3);
    await Promise.all(range(0, 10).map((number) => client.send("room/1", number)));
    assert.equal(await it.still_busy(), 0);
    assert.deepEqual((await take(room, 10)).sort(numerically), range(0, 10));
  }));

test("a rate limit slows a sender and loses nothing", () =>
  onStage({ messages_per_second: 200 }, async (it, open) => {
    const client = await open();
    await inTime(Promise.all(range(0, 300).map((number) => client.send("room/1", number))));
    assert.deepEqual((await it.stored("room/1")).sort(numerically), range(0, 300));
  }));

test("what is forbidden is raised", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    for (const [request, code] of [
      [client.subscribe("forbidden/1"), "not_allowed"],
      [client.subscribe("not a#pattern"), "invalid_topic"],
      [client.send("forbidden/1", "x"), "not_allowed"],
      [client.send("a/+", "x"), "invalid_topic"],
      [client.history("room/1", { limit: 0 }), "invalid_message"],
      [client.presence("forbidden/1"), "not_allowed"],
    ]) {
      await assert.rejects(request, (error) => error instanceof RequestRefused && error.code === code);
    }
    await it.forbid("nothing");
    await client.subscribe("forbidden/1"); // a subscription that was refused may be tried again
    await assert.rejects(client.subscribe("forbidden/1"), { name: "RangeError", message: /forbidden\/1/ });
  }));

test("a subscription that is refused on return ends by that", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    const room = await client.subscribe("room/1");
    const other = await client.subscribe("other/1");
    await it.forbid("room/");
    await it.cut();
    await assert.rejects(take(room, 1), { name: "RequestRefused", code: "not_allowed" });
    await it.publish("other/1", ["goes on"]);
    assert.deepEqual(await take(other, 1), ["goes on"]);
  }));

test("history and presence are answered", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    const positions = await it.publish("present/1", range(0, 5));
    let page = await client.history("present/1", { limit: 2 });
    assert.deepEqual([page.messages.map(({ data }) => data), page.more], [[3, 4], true]);
    page = await client.history("present/1", { limit: 5, before: positions[3] });
    assert.deepEqual([page.messages.map(({ data }) => data), page.more], [[0, 1, 2], false]);
    const room = await client.subscribe("present/1");
    const { value: joined } = await inTime(room.next());
    assert.deepEqual([joined.type, joined.user], ["joined", "alice"]);
    const { members, total } = await client.presence("present/1");
    assert.deepEqual([members.map(({ user }) => user), total], [["alice"], 1]);
  }));

test("what is ephemeral reaches who is there and is not stored", () =>
  onStage({}, async (it, open) => {
    const [client, other] = [await open(), await open({ token: await it.token(600, "bob") })];
    const room = await other.subscribe("room/1");
    client.sendEphemeral("room/1", "typing");
    assert.deepEqual(await take(room, 1), ["typing"]);
    await it.down();
    await until(() => client.state === "reconnecting");
    client.sendEphemeral("room/1", "lost");
    await it.up();
    await inTime(client.send("room/1", "said"));
    assert.deepEqual(await take(room, 1), ["said"]);
    assert.deepEqual(await it.stored("room/1"), ["said"]);
  }));

test("a slow caller is not flooded and misses nothing", () =>
  onStage({}, async (it, open) => {
    const client = await open({ maxWaiting: 100 });
    const slow = await client.subscribe("slow/1");
    const quick = await client.subscribe("quick/1");
    const taking = take(quick, 1_000);
    for (let start = 0; start < 1_000; start += 50) {
      await it.publish("slow/1", range(start, start + 50));
      await it.publish("quick/1", range(start, start + 50));
      await sleep(5);
    }
    assert.deepEqual(await taking, range(0, 1_000));
    await until(async () => String(await it.topics()) === "quick/1", "the slow one is paused");
    assert.ok(slow.length < 1_000);
    await client.send("other/1", "who reads slowly may send all the same");
    await it.cut();
    assert.deepEqual(await take(slow, 1_000), range(0, 1_000));
    await until(async () => String(await it.topics()) === "quick/1,slow/1", "both live again");
    assert.equal(await it.accepted(), 2);
  }));

test("a flood that cannot be stopped in time costs a connection and no message", () =>
  onStage({}, async (it, open) => {
    const client = await open({ maxWaiting: 10 });
    const room = await client.subscribe("room/1");
    await it.down();
    await it.publish("room/1", range(0, 2_000));
    await it.up();
    await until(() => room.length >= 100, "too many wait");
    await until(async () => (await it.accepted()) > 2 && client.state === "open", "the connection was given up");
    assert.ok(room.length < 2_000);
    assert.deepEqual(await take(room, 2_000), range(0, 2_000));
  }));

test("a dead connection is noticed", () =>
  onStage({}, async (it, open) => {
    const client = await open({ heartbeatSeconds: 0.1 });
    const room = await client.subscribe("room/1");
    await it.stall();
    await it.publish("room/1", ["missed"]);
    assert.deepEqual(await take(room, 1), ["missed"]);
    assert.equal(await it.accepted(), 2);
  }));

test("a server that is not there is tried until it is", () =>
  onStage({}, async (it, open) => {
    const states = [];
    await it.down();
    const client = await open({ onState: (state) => states.push(state), connect: false });
    assert.equal(client.state, "connecting");
    let connected = false;
    const connecting = client.connect().then(() => (connected = true));
    await until(async () => (await it.accepted()) >= 3, "three tries");
    assert.ok(!connected);
    assert.deepEqual(states, []);
    await it.up();
    await inTime(connecting);
    assert.deepEqual(states, ["open"]);
  }));

test("the states are told", () =>
  onStage({}, async (it, open) => {
    const states = [];
    const client = await open({ onState: (state) => states.push(state) });
    await it.cut();
    await until(() => states.length === 3);
    assert.equal(client.state, "open");
    await client.close();
    assert.deepEqual(states, ["open", "reconnecting", "open", "closed"]);
  }));

test("the caller is told when it has caught up", () =>
  onStage({}, async (it, open) => {
    const told = [];
    const client = await open({ onCaughtUp: (messages) => told.push(messages) });
    const room = await client.subscribe("room/1");
    await client.subscribe("other/1");
    await it.down();
    await it.publish("room/1", range(0, 12));
    await it.publish("other/1", ["x"]);
    assert.deepEqual(told, []);
    await it.up();
    await until(() => told.length > 0);
    assert.deepEqual(told, [13]);
    assert.equal(room.length, 12);
  }));

test("all messages come in one iteration in the order of their arrival", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    await client.subscribe("room/1");
    await client.subscribe("other/1");
    for (const number of range(0, 5)) {
      await client.send("room/1", `room ${number}`);
      await client.send("other/1", `other ${number}`);
    }
    await it.broadcast("to everybody");
    const expected = range(0, 5).flatMap((number) => [`room ${number}`, `other ${number}`]);
    assert.deepEqual(await take(client, 11), [...expected, "to everybody"]);
  }));

test("unsubscribing ends the iteration", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    let room = await client.subscribe("room/1");
    await it.publish("room/1", ["one"]);
    await until(() => room.length === 1);
    client.unsubscribe("room/1");
    const rest = [];
    for await (const { data } of room) rest.push(data);
    assert.deepEqual(rest, ["one"]);
    await until(async () => (await it.topics()).length === 0);
    room = await client.subscribe("room/1");
    await it.publish("room/1", ["two"]);
    assert.deepEqual(await take(room, 1), ["two"]);
  }));

test("a server that speaks something else ends the client", () =>
  onStage({}, async (it, open) => {
    const client = await open();
    const room = await client.subscribe("room/1");
    await it.send_text('{"topic": "room/1", "id": "not a position"}');
    await assert.rejects(take(room, 1), { name: "ConnectionEnded", message: /does not speak the protocol/ });
  }));

test("a closed client leaves nothing behind", () =>
  onStage({}, async (it, open) => {
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
    const before = timers();
    const client = await open();
    const room = await client.subscribe("room/1");
    await it.publish("room/1", ["one"]);
    await until(() => room.length === 1);
    await it.lose_answers();
    const sending = assert.rejects(client.send("room/1", "no answer"), { name: "ConnectionEnded", message: /closed/ });
    await client.close();
    await sending;
    await assert.rejects(client.subscribe("room/2"), { name: "ConnectionEnded", message: /closed/ });
    const rest = [];
    for await (const { data } of room) rest.push(data);
    assert.deepEqual(rest, ["one"]);
    assert.equal(client.state, "closed");
    await it.cut();
    await it.until_gone();
    await until(() => timers() <= before, "no timer is left");
    await client.close();
  }));
