// What a client knows across its connections, and what it says next. Does no I/O and has no clock.
//
// It holds the subscriptions with their positions and the requests that have no answer yet. Whoever drives it calls
// `connected`, `received` for each message and `disconnected`, and sends what `toSend` gives after each call.
// `received` returns events: {kind: "delivered", topic, message}, {kind: "hole", topic}, {kind: "subscribed", topic},
// {kind: "answered", ref, answer}, {kind: "refused", ref, topic, code, detail}, {kind: "postponed"},
// {kind: "welcomed", welcome}, {kind: "caught up", messages}, {kind: "drain", withinSeconds}, {kind: "token expired"}.

/** In place of a topic: what came to this connection alone, or to everybody. */
export const DIRECT = "";

/** Errors after which the same request may succeed later. */
const FOR_NOW = new Set(["unavailable", "overloaded", "rate_limited"]);

/** Requests that `retry` repeats: fewer than a server takes as one burst. */
const RETRY_AT_ONCE = 50;

/** Topics of a pattern without a position whose newest message is remembered. */
const MAX_TOPICS = 10_000;

/**
 * To unsubscribe from what nobody can be subscribed to changes nothing, and is answered in its turn: when everything
 * that was asked before has been dealt with.
 */
const ECHO_TOPIC = "$echo";

/** Where a subscription is in its log, so that it goes on from there and takes nothing twice. */
class Place {
  ref = ""; // of the newest request to subscribe
  position = null; // everything up to here was delivered; null where no one log orders it all
  epoch = null;
  wanted = true; // false while it is paused
  live = false; // whether what comes on this connection is for it
  begun = false; // whether the server ever said `subscribed`: what is missing behind that is a hole
  held = null; // a list while missed and live messages may come mixed
  newest = new Map(); // where there is no position: that of each topic's newest message

  /** Go on to the position of a message. False if it was passed before: the message is a duplicate. */
  take(topic, position) {
    const last = this.position ?? this.newest.get(topic);
    if (last !== undefined && comparePositions(position, last) <= 0) return false;
    if (this.position !== null) {
      this.position = position;
    } else {
      if (!isPosition(position)) throw new SyntaxError(`a position is 'ms-seq', not ${position}`);
      this.newest.delete(topic);
      this.newest.set(topic, position);
      if (this.newest.size > MAX_TOPICS) this.newest.delete(this.newest.keys().next().value);
    }
    return true;
  }
}

export class ClientSession {
  #prefix = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  #number = 0;
  #places = new Map();
  #requests = new Map();
  #refused = new Set();
  #outgoing = [];
  #connected = false;
  #catchingUp = false;
  #delivered = 0;

  /** Whether anything waits for `retry`. */
  get refused() {
    return this.#refused.size > 0;
  }

  /** The messages to send now, in order. Gives each of them once. */
  toSend() {
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    return outgoing;
  }

  // What the caller wants. Where a ref is returned, the answer has it.

  send(topic, data) {
    return this.#ask({ type: "send", topic, data }, { again: true });
  }

  history(topic, limit, before) {
    return this.#ask({ type: "history", topic, limit, ...(before && { before }) }, { again: true });
  }

  presence(topic) {
    return this.#ask({ type: "presence", topic }, { again: true });
  }

  /** Not stored, not repeated, not answered: nothing happens where there is no connection. */
  sendEphemeral(topic, data) {
    if (this.#connected) this.#outgoing.push(JSON.stringify({ type: "send", topic, data, ephemeral: true }));
  }

  authenticate(token) {
    return this.#ask({ type: "authenticate", token }, { urgent: true });
  }

  /** Ask for a sign of life. */
  echo() {
    return this.#ask({ type: "unsubscribe", topic: ECHO_TOPIC }, { urgent: true });
  }

  subscribe(topic) {
    if (this.#places.has(topic)) throw new RangeError(`subscribed to ${topic} already`);
    const place = new Place();
    this.#places.set(topic, place);
    this.#askFor(topic, place);
  }

  /** Nothing more is delivered for it, at once. */
  unsubscribe(topic) {
    this.#drop(this.#places.get(topic).ref);
    this.#places.delete(topic);
    if (!this.#connected) return;
    this.#ask({ type: "unsubscribe", topic });
    this.#lookWhetherCaughtUp();
  }

  /** Ask the server to send nothing more of it for now. What is on its way still comes. */
  pause(topic) {
    const place = this.#places.get(topic);
    place.wanted = false;
    if (!this.#connected) return;
    this.#drop(place.ref);
    const ref = this.#ask({ type: "unsubscribe", topic });
    this.#requests.get(ref).pauses = place;
    this.#lookWhetherCaughtUp();
  }

  /** Go on from where it was paused. */
  resume(topic) {
    const place = this.#places.get(topic);
    place.wanted = true;
    this.#askFor(topic, place);
  }

  /** Ask again for some of what was refused for now, the oldest first. */
  retry() {
    const refs = [...this.#requests.keys()].filter((ref) => this.#refused.has(ref)).slice(0, RETRY_AT_ONCE);
    for (const ref of refs) {
      this.#refused.delete(ref);
      this.#outgoing.push(this.#requests.get(ref).text);
    }
  }

  #ask(request, { again = false, urgent = false } = {}) {
    const ref = `${this.#prefix}-${(this.#number += 1)}`;
    const text = JSON.stringify({ ...request, ref });
    this.#requests.set(ref, { text, again, subscribes: null, pauses: null, releases: [], endsCatchUp: false });
    if (this.#connected) {
      // What is refused for now holds up what comes behind it: so the order stays, and the server gets some rest.
      if (this.refused && !urgent) this.#refused.add(ref);
      else this.#outgoing.push(text);
    }
    return ref;
  }

  #askFor(topic, place) {
    const known = place.position !== null && place.epoch !== null;
    const since = known ? { since: { position: place.position, epoch: place.epoch } } : {};
    place.ref = this.#ask({ type: "subscribe", topic, ...since });
    this.#requests.get(place.ref).subscribes = topic;
  }

  #askEcho(endsCatchUp) {
    const request = this.#requests.get(this.echo());
    request.releases = [...this.#places.values()].filter((place) => place.held !== null);
    request.endsCatchUp = endsCatchUp;
  }

  #drop(ref) {
    const request = this.#requests.get(ref);
    this.#refused.delete(ref);
    this.#requests.delete(ref);
    return request;
  }

  // Connections

  /** There is a new connection: subscribe again, and repeat in order what has no answer. */
  connected() {
    this.#connected = true;
    const unanswered = [...this.#requests].filter(([, request]) => request.again);
    this.#requests.clear();
    for (const [topic, place] of this.#places) {
      if (place.wanted) this.#askFor(topic, place);
    }
    for (const [ref, request] of unanswered) {
      this.#requests.set(ref, request);
      this.#outgoing.push(request.text);
    }
    this.#catchingUp = [...this.#places.values()].some((place) => place.wanted && place.begun);
    this.#delivered = 0;
  }

  /** The connection is gone. What was held is dropped: it comes again. */
  disconnected() {
    this.#connected = false;
    this.#refused.clear();
    this.#outgoing = [];
    for (const place of this.#places.values()) {
      place.live = false;
      place.held = null;
    }
  }

  // What the server says

  /** What a message from the server means. Throws `SyntaxError` for what is none of the protocol. */
  received(text) {
    const fields = JSON.parse(text);
    if (fields === null || typeof fields !== "object" || Array.isArray(fields)) {
      throw new SyntaxError("a message is a JSON object");
    }
    switch (fields.type) {
      case "subscribed":
        return this.#subscribed(fields);
      case "ack":
      case "unsubscribed":
      case "history":
      case "presence":
      case "authenticated":
        return this.#answered(fields);
      case "error":
        return this.#errored(fields);
      case "welcome":
        return [{ kind: "welcomed", welcome: fields }];
      case "reconnect":
        return [{ kind: "drain", withinSeconds: Number(fields.within_seconds) || 0 }];
      case "token_expired":
        return [{ kind: "token expired" }];
      default:
        return this.#deliver(fields);
    }
  }

  #deliver(fields) {
    const { topic, id } = fields;
    if (topic === undefined) return [{ kind: "delivered", topic: DIRECT, message: fields }];
    const events = [];
    for (const [pattern, place] of this.#places) {
      // One that is not live has no part in this: the message comes for another subscription that matches it.
      if (!place.live || !(pattern === topic || matches(topic, pattern))) continue;
      if (place.held !== null && id !== undefined) place.held.push(fields);
      else if (id === undefined || place.take(topic, id)) {
        events.push({ kind: "delivered", topic: pattern, message: fields });
      }
    }
    this.#delivered += events.length;
    return events;
  }

  #subscribed({ topic, ref = null, position = null, epoch = null, recovered }) {
    const place = this.#places.get(topic);
    const events = [];
    if (ref === null) {
      // Unasked: the worker lost its place in the log.
      if (!place?.live) return [];
      events.push(...this.#release(topic, place));
      place.newest.clear();
    } else if (!this.#drop(ref) || !place) {
      return []; // paused or unsubscribed from meanwhile
    } else {
      events.push({ kind: "subscribed", topic });
    }
    place.live = true;
    if (recovered === true) {
      // A message that comes now may be a missed one, or a live one of another subscription behind which there are
      // missed ones still to come. So they are held, and put in order once the replay is over.
      if ([...this.#places.keys()].some((other) => other !== topic && overlap(topic, other))) {
        place.held = [];
        this.#askEcho(false);
      }
    } else {
      // Unasked, the position of a pattern that spans shards is that of one of them.
      if (ref !== null || place.position !== null) Object.assign(place, { position, epoch });
      if (place.begun) events.push({ kind: "hole", topic });
    }
    place.begun = true;
    this.#lookWhetherCaughtUp();
    return events;
  }

  #release(topic, place) {
    const held = place.held ?? [];
    place.held = null;
    held.sort((one, other) => comparePositions(one.id, other.id));
    const events = held
      .filter((fields) => place.take(fields.topic, fields.id))
      .map((message) => ({ kind: "delivered", topic, message }));
    this.#delivered += events.length;
    return events;
  }

  /** Once nothing is missed that has not been asked for and answered, the next echo comes behind the replays. */
  #lookWhetherCaughtUp() {
    if (this.#catchingUp && [...this.#places.values()].every((place) => place.live || !place.wanted)) {
      this.#catchingUp = false;
      this.#askEcho(true);
    }
  }

  #answered(fields) {
    const request = this.#drop(fields.ref);
    if (!request) return [];
    const events = [{ kind: "answered", ref: fields.ref, answer: fields }];
    if (request.pauses) Object.assign(request.pauses, { live: false, held: null });
    for (const [topic, place] of this.#places) {
      if (request.releases.includes(place)) events.push(...this.#release(topic, place));
      // Resumed before the pause could be done:
      if (place === request.pauses && place.wanted && !this.#requests.has(place.ref)) this.#askFor(topic, place);
    }
    if (request.endsCatchUp) events.push({ kind: "caught up", messages: this.#delivered });
    return events;
  }

  #errored({ ref = null, code, detail }) {
    if (this.#requests.has(ref) && FOR_NOW.has(code)) {
      this.#refused.add(ref);
      return [{ kind: "postponed" }];
    }
    const topic = this.#drop(ref)?.subscribes ?? null;
    if (topic !== null) {
      this.#places.delete(topic);
      this.#lookWhetherCaughtUp();
    }
    return [{ kind: "refused", ref, topic, code, detail }];
  }
}

/** Whether a client that was closed with this code should come back (distributed_websocket/codes.py says why). */
export function mayReconnect(code) {
  return ![1000, 1002, 1003, 1007, 1008, 1009, 1010].includes(code) && !(code >= 4500 && code <= 4999);
}

function isPosition(position) {
  return /^\d+-\d+$/.test(position);
}

/** Positions are "ms-seq", both numbers of any size. Negative, zero or positive, as for `sort`. */
export function comparePositions(one, other) {
  if (!isPosition(one)) throw new SyntaxError(`a position is 'ms-seq', not ${one}`);
  const [ms, seq] = one.split("-").map(BigInt);
  const [otherMs, otherSeq] = other.split("-").map(BigInt);
  return Number(ms - otherMs || seq - otherSeq);
}

/** Whether a pattern (MQTT 5 §4.7) matches a topic. */
function matches(topic, pattern) {
  const levels = topic.split("/");
  const wanted = pattern.split("/");
  if (topic.startsWith("$") && (wanted[0] === "+" || wanted[0] === "#")) return false;
  if (wanted.at(-1) === "#") {
    wanted.pop();
    if (levels.length < wanted.length) return false;
  } else if (levels.length !== wanted.length) return false;
  return wanted.every((level, index) => level === "+" || level === levels[index]);
}

/** Whether there can be a topic that both patterns match. */
function overlap(one, other) {
  const ours = one.split("/");
  const theirs = other.split("/");
  const shorter = Math.min(ours.length, theirs.length);
  for (let index = 0; index < shorter; index += 1) {
    if (ours[index] === "#" || theirs[index] === "#") return true;
    if (ours[index] !== theirs[index] && ours[index] !== "+" && theirs[index] !== "+") return false;
  }
  const longer = ours.length > theirs.length ? ours : theirs;
  return ours.length === theirs.length || (longer.length === shorter + 1 && longer.at(-1) === "#");
}
