// The chat of one signed-in user: the rooms, and the client that keeps them up to date. No DOM.
//
// Events: "change" (detail: {room, what}, what is "message", "members", "typing", "sending", "history" or "joined"),
// "connection" (state or worker changed), "caught up" (detail: messages), "rooms" (the list of rooms), "notice" (detail:
// a text), "other user" (somebody else signed in in this browser).

import { addRoom, findRooms, sentence, signedIn } from "./api.js";
import { Client, OtherUser } from "./client.js";
import { ROOM_NAME, Room } from "./room.js";

const ANNOUNCEMENTS = "rooms";
/** Where everybody begins. */
export const LOBBY = "lobby";

/** Fewer than a server takes as subscriptions of one connection. */
export const MAX_ROOMS = 90;

/** A sign of typing is repeated so often while somebody types. */
const TYPING_EVERY_MS = 3_000;

const PAGE = 50;
const ENOUGH = 20; // a page of history holds joining and leaving too: messages that are worth a scroll
const PAGES = 5;
const KEPT = 500;

/** So many names the server gives at once, and so many are kept: anybody can announce any number. */
const MAX_KNOWN = 100;

export class Chat extends EventTarget {
  rooms = new Map(); // by name: those that one is in
  known = { beginning: "", rooms: [], more: false };
  #client;
  #askToSignIn;
  #tries = 0;
  #streams = new Map();
  #caughtUp = null; // counts messages while catching up
  #number = 0;
  #saidTyping = new Map();
  #lookSoon = new Set(); // rooms where somebody joined
  #storage;

  /** `askToSignIn` asks for the password again and resolves when there is a fresh cookie. */
  constructor(user, url, askToSignIn) {
    super();
    this.user = user;
    this.#askToSignIn = askToSignIn;
    this.#storage = `chat:${user}`;
    this.#client = new Client(url, {
      token: () => this.#cookie(),
      user,
      onState: (state, error) => this.#stateChanged(state, error),
      onHole: (topic) => this.#reload(topic),
      // What was delivered is taken from the streams behind this.
      onCaughtUp: () => setTimeout(() => this.#endCatchUp()),
    });
  }

  get state() {
    return this.#client.state;
  }

  /** How many handshakes in a row were not answered. */
  get failures() {
    return Math.max(0, this.#tries - 1);
  }

  get worker() {
    return this.#client.welcome.worker ?? null;
  }

  start() {
    const { rooms = {} } = this.#load();
    this.#client.connect().catch((ended) => this.#tell("notice", `The chat is over: ${inWords(ended)}`));
    for (const [name, read] of Object.entries(rooms)) this.#enter(new Room(name, this.user, read));
    if (!this.rooms.size) this.join(LOBBY);
    this.find("");
    this.#follow(ANNOUNCEMENTS, ({ data }) => this.#announced(data?.name)).catch(() => {});
    setInterval(() => this.#tick(), 1_000);
  }

  /** Sign out: come back no more. */
  async stop() {
    await this.#client.close();
  }

  // Rooms

  /** Be in a room, which is put into the list if it is new. */
  join(name) {
    if (this.rooms.has(name)) return this.rooms.get(name);
    if (this.rooms.size >= MAX_ROOMS) {
      this.#tell("notice", `You are in ${MAX_ROOMS} rooms. Leave one of them first.`);
      return null;
    }
    const room = this.#enter(new Room(name, this.user));
    this.#save();
    addRoom(name).catch((refused) => this.#tell("notice", refused.message));
    this.#client.sendEphemeral(ANNOUNCEMENTS, { name });
    return room;
  }

  leave(room) {
    this.rooms.delete(room.name);
    this.#client.unsubscribe(room.topic);
    this.#save();
    this.#tell("rooms");
  }

  /** Ask for the rooms whose names begin so. */
  async find(beginning) {
    try {
      this.known = { beginning, ...(await findRooms(beginning)) };
      this.#tell("rooms");
    } catch (refused) {
      if (refused.status !== 401) this.#tell("notice", refused.message);
    }
  }

  #announced(name) {
    const { beginning, rooms, more } = this.known;
    if (typeof name !== "string" || !ROOM_NAME.test(name) || !name.startsWith(beginning)) return;
    if (more || rooms.includes(name)) return;
    if (rooms.length < MAX_KNOWN) this.known.rooms = [...rooms, name].sort();
    else this.known.more = true;
    this.#tell("rooms");
  }

  #enter(room) {
    this.rooms.set(room.name, room);
    this.#tell("rooms");
    this.#follow(room.topic, (fields) => this.#received(room, fields))
      .then(() => Promise.all([this.older(room), this.lookAround(room)]))
      .then(() => this.#changed(room, "joined"))
      .catch((error) => this.#tell("notice", `${room.name}: ${inWords(error)}`));
    return room;
  }

  /** Subscribe, and hand over what comes. Resolves when subscribed. */
  async #follow(topic, take) {
    const stream = await this.#client.subscribe(topic);
    (async () => {
      for await (const fields of stream) take(fields);
    })().catch((error) => this.#tell("notice", `${topic}: ${inWords(error)}`));
  }

  // Messages

  #received(room, fields) {
    if (this.rooms.get(room.name) !== room) return;
    const what = room.receive(fields, Date.now());
    if (what === "message") {
      if (this.#caughtUp !== null) this.#caughtUp += 1;
      room.trim(KEPT);
    }
    if (what === "members" && fields.type === "joined") this.#lookAroundSoon(room);
    if (what) this.#changed(room, what);
  }

  /** Send a text. It is shown at once, and what became of it. */
  async send(room, text) {
    const key = `${Date.now().toString(36)}-${(this.#number += 1)}-${Math.random().toString(36).slice(2, 8)}`;
    const sending = { key, text, at: Date.now(), state: "sending", reason: "" };
    room.sending.push(sending);
    this.#saidTyping.delete(room);
    this.#changed(room, "sending");
    try {
      await this.#client.send(room.topic, { text, key });
      sending.state = "stored";
    } catch (error) {
      sending.state = "failed";
      sending.reason = inWords(error);
    }
    this.#changed(room, "sending");
  }

  /** Give up on a message that was refused. */
  discard(room, sending) {
    room.sending = room.sending.filter((other) => other !== sending);
    this.#changed(room, "sending");
  }

  /** Say that one types; not more often than it is worth. */
  type(room) {
    const now = Date.now();
    if (this.state !== "open" || now < (this.#saidTyping.get(room) ?? 0) + TYPING_EVERY_MS) return;
    this.#saidTyping.set(room, now);
    this.#client.sendEphemeral(room.topic, { typing: true });
  }

  /** Load messages before those that are there. */
  async older(room) {
    if (room.loading || !room.more) return;
    const loading = (room.loading = {});
    const before = room.messages.length;
    let position = room.messages[0]?.id;
    try {
      for (let page = 0; page < PAGES && room.more && room.messages.length < before + ENOUGH; page += 1) {
        const { messages, more } = await this.#client.history(room.topic, { limit: PAGE, before: position });
        if (room.loading !== loading) return; // it was of the log before the hole
        room.load(messages);
        room.more = more && messages.length > 0;
        position = messages[0]?.id;
        this.#changed(room, "history");
      }
    } catch (error) {
      if (room.loading !== loading) return;
      if (error.code === "not_allowed") {
        room.more = false; // where nothing is stored there is no history
        this.#changed(room, "history");
      } else this.#tell("notice", `${room.name}: ${inWords(error)}`); // the next scroll tries again
    } finally {
      if (room.loading === loading) room.loading = null;
    }
  }

  /** Ask who is in a room. */
  async lookAround(room) {
    try {
      const { members } = await this.#client.presence(room.topic);
      room.members = new Map(members.map(({ user, worker }) => [user, worker]));
    } catch {
      room.members = null; // this service does not say
    }
    this.#changed(room, "members");
  }

  /** By which worker somebody came is not said: it is asked for, once for all who come within a while. */
  #lookAroundSoon(room) {
    if (this.#lookSoon.has(room)) return;
    this.#lookSoon.add(room);
    const look = () => {
      this.#lookSoon.delete(room);
      this.lookAround(room);
    };
    setTimeout(look, 500 + 1_000 * Math.random());
  }

  markRead(room) {
    if (!room.markRead()) return;
    this.#save();
    this.#tell("rooms");
  }

  // Connection

  /** The cookie does it. But a script does not see why a handshake failed: then it is asked whether it still holds. */
  async #cookie() {
    this.#tries += 1;
    if (this.#tries > 1 || this.state === "open") {
      this.#tell("connection");
      try {
        if ((await signedIn()) === null) await this.#askToSignIn();
      } catch {
        // Nobody answers: the client tries again.
      }
    }
    return null;
  }

  #stateChanged(state, error) {
    if (error instanceof OtherUser) return this.#tell("other user");
    if (state === "open") {
      this.#tries = 0;
      for (const room of this.rooms.values()) if (room.members) this.lookAround(room);
    }
    if (state === "reconnecting") this.#caughtUp = 0;
    this.#tell("connection");
  }

  #endCatchUp() {
    if (this.#caughtUp !== null) this.#tell("caught up", this.#caughtUp);
    this.#caughtUp = null;
  }

  #reload(topic) {
    for (const room of this.rooms.values()) {
      if (room.topic !== topic) continue;
      room.reset();
      this.older(room);
      this.lookAround(room);
      this.#tell("notice", `Some messages in ${room.name} may be missing here: the server no longer has them.`);
    }
  }

  #tick() {
    const now = Date.now();
    for (const room of this.rooms.values()) if (room.expireTyping(now)) this.#changed(room, "typing");
  }

  // What a browser remembers: the rooms, and how far they were read

  #load() {
    try {
      return JSON.parse(localStorage.getItem(this.#storage)) ?? {};
    } catch {
      return {};
    }
  }

  #save() {
    const rooms = Object.fromEntries([...this.rooms.values()].map(({ name, read }) => [name, read]));
    try {
      localStorage.setItem(this.#storage, JSON.stringify({ rooms }));
    } catch {
      // Private windows may store nothing.
    }
  }

  #changed(room, what) {
    this.#tell("change", { room, what });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What the server said, without its code. */
function inWords(error) {
  return sentence(error.message.replace(/^[a-z_]+: /, ""));
}
