// A client that comes back by itself, and misses nothing or says so. For pages, and Node 22 or newer; no dependencies.
//
//     const client = new Client("wss://example.org/ws");
//     await client.connect();
//     const room = await client.subscribe("room/1");
//     await client.send("room/1", "hello");
//     for await (const message of room) console.log(message.from, message.data);
//
// Connections and time are the business of link.js; what is said, and what an answer means, that of session.js.

import { ConnectionEnded, RequestRefused } from "./errors.js";
import { Link } from "./link.js";
import { ClientSession, DIRECT } from "./session.js";
import { Stream } from "./stream.js";

export { ConnectionEnded, InvalidToken, OtherUser, RequestRefused } from "./errors.js";

/** How many times `maxWaiting` may come for a paused subscription before the connection is given up for it. */
const OVERFLOW = 10;

/** Seconds to wait before the first, second, ... new try: each random between 0 and a ceiling that doubles. */
export function* delays(firstSeconds = 0.1, longestSeconds = 5) {
  for (let ceiling = firstSeconds; ; ceiling = Math.min(2 * ceiling, longestSeconds)) {
    yield Math.random() * ceiling;
  }
}

/**
 * One client of the service, over any number of connections. Iterating gives the messages of all subscriptions.
 *
 * Options: `token`, a bearer token, or a function that gives (a promise of) a fresh one for each handshake and when
 * the server says that one has expired; it throws `InvalidToken` when there will be none. Without it, or where it
 * gives null, the browser's cookie counts. All tabs share that, and somebody else may sign in in one of them: where
 * `user` names whose the connection has to be, the client ends with `OtherUser` when it is another's, and sends nothing
 * under that name. (The client in Python has no such option: nobody changes its token behind its back.) `onState` is
 * told each change of `state`: "connecting", "open", "reconnecting", "closed", and with the last one the error that
 * ended the client; null for `close`. `onHole` is called with the topic between two messages of an iteration between
 * which others are missing, and `onCaughtUp` with the number of messages that came since a reconnect, once all that was
 * missed is there. A subscription that has `maxWaiting` messages waiting is paused at the server, and goes on from
 * there when half of them were taken. `heartbeatSeconds` is how often a silent connection is tried, and how long it
 * may take to answer. `backoff` gives an iterator over the seconds to wait before each new try.
 */
export class Client {
  state = "connecting";
  welcome = {}; // what the server said on the newest connection: conn_id, worker, user
  #options;
  #session = new ClientSession();
  #link;
  #streams = new Map();
  #direct;
  #answers = new Map();
  #beginnings = new Map();
  #arrivals = 0;
  #awake = [];
  #error = null;
  #running = null;

  constructor(url, options = {}) {
    const none = () => {};
    this.#options = { onState: none, onHole: none, onCaughtUp: none, ...options };
    this.#options.maxWaiting ??= 1_000;
    this.#link = new Link(url, this.#session, {
      token: this.#options.token,
      user: this.#options.user,
      heartbeatSeconds: this.#options.heartbeatSeconds ?? 20,
      backoff: this.#options.backoff ?? delays,
      onEvent: (event) => this.#handle(event),
      onLost: () => this.state === "open" && this.#setState("reconnecting"),
    });
    this.#direct = this.#stream(DIRECT, this.#options.maxWaiting);
  }

  // Life

  /** Resolves when connected, however long that takes. Rejects with `ConnectionEnded`, as everything else here does. */
  async connect() {
    this.#running = this.#run();
    while (this.state === "connecting") await this.#change();
    this.#throwIfEnded();
  }

  /** Close the connection. Iterations end when they have given what came until now. */
  async close() {
    this.#end(null);
    this.#link.stop();
    await this.#running;
  }

  // Requests

  /**
   * Publish `data` to a topic. Resolves with the message's position once it is stored; null where nothing is.
   *
   * It is repeated until there is an answer, and stored once, if the connection has a user. Whoever needs an order
   * between two messages awaits the first.
   */
  async send(topic, data) {
    this.#throwIfEnded();
    return (await this.#answer(this.#session.send(topic, data))).id ?? null;
  }

  /** Publish `data` to those who are there now. It is not stored, and may be lost. */
  sendEphemeral(topic, data) {
    this.#throwIfEnded();
    this.#session.sendEphemeral(topic, data);
    this.#link.flush();
  }

  /** The newest messages of a topic, oldest first, or the newest of those before a position: {messages, more}. */
  async history(topic, { limit = 50, before } = {}) {
    this.#throwIfEnded();
    const { messages, more } = await this.#answer(this.#session.history(topic, limit, before));
    return { messages, more };
  }

  /** Who is in a topic now: {members, total}. */
  async presence(topic) {
    this.#throwIfEnded();
    const { members, total } = await this.#answer(this.#session.presence(topic));
    return { members, total };
  }

  /**
   * The messages of a topic or pattern from now on, to iterate over.
   *
   * A message that two patterns match comes once for each (as MQTT 5 §3.3.4 has it).
   */
  async subscribe(topic) {
    this.#throwIfEnded();
    this.#session.subscribe(topic);
    const stream = this.#stream(topic);
    this.#streams.set(topic, stream);
    const began = new Promise((resolve, reject) => this.#beginnings.set(topic, { resolve, reject }));
    this.#link.flush();
    await began;
    return stream;
  }

  /** Its iteration ends when it has given what came until now. */
  unsubscribe(topic) {
    const stream = this.#streams.get(topic);
    if (!stream) return;
    this.#streams.delete(topic);
    this.#settle(this.#beginnings, topic);
    stream.end();
    this.#session.unsubscribe(topic);
    this.#link.flush();
  }

  #answer(ref) {
    const answer = new Promise((resolve, reject) => this.#answers.set(ref, { resolve, reject }));
    this.#link.flush();
    return answer;
  }

  #settle(waiting, key, value, error) {
    const promise = waiting.get(key);
    waiting.delete(key);
    if (error) promise?.reject(error);
    else promise?.resolve(value);
    return promise !== undefined;
  }

  #throwIfEnded() {
    if (this.state === "closed") throw this.#error ?? new ConnectionEnded("the client was closed");
  }

  // Messages

  [Symbol.asyncIterator]() {
    return this;
  }

  /** The message that came first of those that wait for any subscription, for this connection or for everybody. */
  async next() {
    for (;;) {
      const waiting = [...this.#streams.values(), this.#direct].filter((stream) => stream.length);
      if (waiting.length) {
        const value = waiting.reduce((one, other) => (one.oldest < other.oldest ? one : other)).take();
        if (value) return { value, done: false };
      } else if (this.state === "closed") {
        return { value: undefined, done: true };
      } else {
        await this.#change();
      }
    }
  }

  #stream(topic, keep) {
    return new Stream(topic, {
      onTaken: (stream) => this.#taken(stream),
      onHole: (of) => this.#options.onHole(of),
      keep,
    });
  }

  #put(stream, item) {
    stream.put((this.#arrivals += 1), item);
    this.#wake();
  }

  #deliver(topic, message) {
    if (topic === DIRECT) return this.#put(this.#direct, { message });
    const { maxWaiting } = this.#options;
    const stream = this.#streams.get(topic);
    this.#put(stream, { message });
    if (stream.length >= maxWaiting && !stream.paused) {
      stream.paused = true;
      this.#session.pause(topic);
    } else if (stream.length === OVERFLOW * maxWaiting) {
      this.#link.leave();
    }
  }

  #taken(stream) {
    const half = Math.floor(this.#options.maxWaiting / 2);
    if (stream.paused && stream.length <= half && stream === this.#streams.get(stream.topic)) {
      stream.paused = false;
      this.#session.resume(stream.topic);
      this.#link.flush();
    }
  }

  // What comes from the link

  async #run() {
    try {
      await this.#link.run();
    } catch (error) {
      this.#end(error instanceof ConnectionEnded ? error : new ConnectionEnded(`unforeseen: ${error}`, { cause: error }));
    }
  }

  #handle(event) {
    switch (event.kind) {
      case "delivered":
        return this.#deliver(event.topic, event.message);
      case "hole":
        return this.#put(this.#streams.get(event.topic), { hole: true });
      case "subscribed":
        return this.#settle(this.#beginnings, event.topic);
      case "answered":
        return this.#settle(this.#answers, event.ref, event.answer);
      case "refused":
        return this.#refuse(event, new RequestRefused(event.code, event.detail));
      case "welcomed":
        this.welcome = event.welcome;
        return this.#setState("open");
      case "caught up":
        return this.#options.onCaughtUp(event.messages);
      default:
        throw new TypeError(`no such event: ${event.kind}`);
    }
  }

  #refuse({ ref, topic }, refusal) {
    if (topic === null) {
      if (!this.#settle(this.#answers, ref, undefined, refusal)) console.warn("nobody waits for this:", refusal);
      return;
    }
    const stream = this.#streams.get(topic);
    this.#streams.delete(topic);
    if (!this.#settle(this.#beginnings, topic, undefined, refusal)) {
      // It lived, on an earlier connection: its iteration ends by this, and the client's too.
      this.#put(stream, { error: refusal });
      this.#put(this.#direct, { error: refusal });
    }
    stream.end();
  }

  // Ends and changes

  #end(error) {
    if (this.state === "closed") return;
    this.#error = error;
    const reason = error ?? new ConnectionEnded("the client was closed");
    for (const waiting of [this.#answers, this.#beginnings]) {
      for (const key of [...waiting.keys()]) this.#settle(waiting, key, undefined, reason);
    }
    for (const stream of [...this.#streams.values(), this.#direct]) {
      if (error) this.#put(stream, { error });
      stream.end();
    }
    this.#setState("closed");
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#wake();
    this.#options.onState(state, this.#error);
  }

  #wake() {
    for (const resolve of this.#awake.splice(0)) resolve();
  }

  /** Resolves when anything arrived or changed. */
  #change() {
    return new Promise((resolve) => this.#awake.push(resolve));
  }
}
