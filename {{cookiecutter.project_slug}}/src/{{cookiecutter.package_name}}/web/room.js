// What is known of one room: its messages in order, who is in it, who is typing. No DOM, no network, no clock.

import { comparePositions as compare } from "./session.js";

/** How long somebody counts as typing after the last sign of it. */
export const TYPING_MS = 6_000;

export const ROOM_NAME = /^[a-z0-9][a-z0-9-]{0,39}$/;

export class Room {
  messages = []; // stored ones, oldest first: {id, from, text, at}
  sending = []; // one's own that have not come back yet: {key, text, at, state, reason}
  members = null; // user to worker; null where it is not known
  typing = new Map(); // user to when it ends
  more = true; // whether there may be older messages
  loading = null; // stands for the older messages that are being loaded
  #opened = Date.now();
  #unplaced = 0;

  /** `read` is the id of the newest message that was read before; null for none. */
  constructor(name, user, read = null) {
    this.name = name;
    this.topic = `room/${name}`;
    this.user = user;
    this.read = read;
  }

  get newest() {
    return this.messages.at(-1)?.id ?? null;
  }

  /** Messages of others behind what was read. */
  get unread() {
    let count = 0;
    for (let index = this.messages.length - 1; index >= 0; index -= 1) {
      const { id, from } = this.messages[index];
      if (this.read !== null && compare(id, this.read) <= 0) break;
      if (from !== this.user) count += 1;
    }
    return count;
  }

  /** Take a message of the topic, as it came. Says what changed: "message", "members", "typing" or nothing. */
  receive(fields, now) {
    const { type, user } = fields;
    if (type === "joined") {
      if (!this.members || this.members.has(user)) return null;
      this.members.set(user, null);
      return "members";
    }
    if (type === "left") return this.members?.delete(user) ? "members" : null;
    if (type !== "send") return null;
    if (fields.ephemeral) {
      if (fields.from === this.user || fields.data?.typing !== true) return null;
      this.typing.set(fields.from, now + TYPING_MS);
      return "typing";
    }
    this.typing.delete(fields.from);
    return this.#add(fields) ? "message" : null;
  }

  /** Take a page of history. */
  load(page) {
    for (const fields of page) if (fields.type === "send") this.#add(fields);
  }

  #add({ id = `${this.#opened}-${(this.#unplaced += 1)}`, from, at, data }) {
    // A broker that stores nothing gives no ids: then they are in the order in which they came, and behind all that an
    // earlier visit read.
    let index = this.messages.length;
    while (index > 0 && compare(this.messages[index - 1].id, id) > 0) index -= 1;
    if (this.messages[index - 1]?.id === id) return false;
    this.messages.splice(index, 0, { id, from: String(from ?? "?"), at, text: textOf(data) });
    if (from === this.user) this.sending = this.sending.filter(({ key }) => key !== data?.key);
    return true;
  }

  /** Forget the oldest, so that a page that stays open for days does not grow. */
  trim(length) {
    if (this.messages.length <= 2 * length) return;
    this.messages.splice(0, this.messages.length - length);
    this.more = true;
  }

  /** There is a hole: what is here, or is being loaded, may have nothing to do with what comes. */
  reset() {
    this.messages = [];
    this.more = true;
    this.loading = null;
  }

  markRead() {
    const newest = this.newest;
    if (newest === null || newest === this.read) return false;
    this.read = newest;
    return true;
  }

  /** Forget who stopped typing. Whether anybody did. */
  expireTyping(now) {
    const before = this.typing.size;
    for (const [user, until] of this.typing) if (until <= now) this.typing.delete(user);
    return this.typing.size !== before;
  }
}

/** What somebody wrote, from whatever a client sent. */
function textOf(data) {
  if (typeof data === "string") return data;
  return typeof data?.text === "string" ? data.text : JSON.stringify(data ?? null);
}

/** "a", "a and b", "a, b and 3 others". */
export function names(list) {
  if (list.length > 3) return `${list.slice(0, 2).join(", ")} and ${list.length - 2} others`;
  return list.length < 2 ? list.join("") : `${list.slice(0, -1).join(", ")} and ${list.at(-1)}`;
}
