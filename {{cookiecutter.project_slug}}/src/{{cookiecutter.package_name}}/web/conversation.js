// The messages of the room that is open. Whatever people wrote goes into the page as text, never as markup.

import { arrange, button, colour, element, initial, oncePerFrame, time } from "./elements.js";

/** Messages of one person within this time stand together. */
const TOGETHER_MS = 5 * 60_000;

/** What takes longer to be stored says so. */
const SLOW_MS = 1_000;

/** So near to the end counts as being there. */
const NEAR_PX = 48;

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export class Conversation {
  room = null;
  /** Draw what changed. */
  update = oncePerFrame(() => this.room && this.#draw());
  #scroller;
  #list;
  #begin;
  #newer;
  #actions;
  #items = new Map(); // message or key to its item
  #unreadFrom = null;
  #seen = null; // the newest message when the end was last in sight
  #wasAtEnd = true;

  /** `actions`: older(room), read(room), again(room, sending), discard(room, sending). */
  constructor({ scroller, list, begin, newer }, actions) {
    [this.#scroller, this.#list, this.#begin, this.#newer] = [scroller, list, begin, newer];
    this.#actions = actions;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // The keyboard of a phone, a notice above: the end stays in sight.
    new ResizeObserver(() => this.#wasAtEnd && this.toEnd()).observe(scroller);
    newer.addEventListener("click", () => {
      this.toEnd();
      scroller.focus();
    });
  }

  open(room) {
    this.room = room;
    this.#unreadFrom = room.read;
    this.#items.clear();
    this.#list.replaceChildren();
    this.#draw();
    this.toEnd();
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#scrolled();
  }

  get #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }

  #scrolled() {
    // On a phone the list of rooms takes the place of the messages: then nobody sees them.
    if (!this.room || !this.#scroller.clientHeight) return;
    if (this.#scroller.scrollTop < 200 && this.room.more) this.#actions.older(this.room);
    this.#wasAtEnd = this.#isAtEnd;
    if (this.#wasAtEnd) {
      this.#seen = this.room.messages.at(-1);
      if (!document.hidden) this.#actions.read(this.room);
    }
    this.#countNewer();
  }

  #countNewer() {
    const { messages, user } = this.room;
    const behind = this.#isAtEnd ? [] : messages.slice(messages.indexOf(this.#seen) + 1);
    const count = behind.filter(({ from }) => from !== user).length;
    this.#newer.hidden = count === 0 || !this.#seen;
    this.#newer.textContent = `↓ ${count} new`;
    this.#newer.setAttribute("aria-label", `${count} new ${count === 1 ? "message" : "messages"}: go to the end`);
  }

  #draw() {
    const { room } = this;
    const wasAtEnd = this.#isAtEnd;
    const anchor = this.#anchor();
    const wanted = [...room.messages, ...room.sending];
    const present = new Set(wanted);
    for (const message of this.#items.keys()) if (!present.has(message)) this.#items.delete(message);
    let before = null;
    const items = wanted.map((message) => {
      let item = this.#items.get(message);
      if (!item) {
        item = message.key ? this.#sendingItem(message) : this.#item(message.from, message.text, message.at);
        this.#items.set(message, item);
      }
      this.#group(item, message, before);
      if (message.key) this.#showState(item, message);
      before = message;
      return item;
    });
    arrange(this.#list, items);
    this.#begin.textContent = room.more ? "Loading what was said before…" : "This is the beginning.";
    if (wasAtEnd) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else if (anchor) this.#scroller.scrollTop += anchor.item.getBoundingClientRect().top - anchor.top;
    this.#scrolled();
  }

  /** The first item in sight, and where: it stays there while older messages come in above. */
  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (const item of this.#list.children) {
      const box = item.getBoundingClientRect();
      if (box.bottom > top) return { item, top: box.top };
    }
    return null;
  }

  #item(from, text, at) {
    const mine = from === this.room.user;
    const item = element("li", { class: mine ? "message mine" : "message" });
    const avatar = element("span", { class: "avatar", "aria-hidden": "true" }, initial(from));
    avatar.style.setProperty("--hue", colour(from));
    const author = element("b", { class: "author" }, from);
    author.style.setProperty("--hue", colour(from));
    const when = Number.isFinite(at) ? time(at, TIME.format(at)) : "";
    const head = element("p", { class: "head" }, author, " ", when);
    // `auto`: what is written from right to left stands so.
    const body = element("p", { class: "text", dir: "auto" }, text);
    const state = element("span", { class: "state" });
    if (mine) state.append(...sign("✓", "stored"));
    item.append(avatar, element("div", { class: "said" }, head, element("div", { class: "bubble" }, body, state)));
    return item;
  }

  #sendingItem(sending) {
    return this.#item(this.room.user, sending.text, sending.at);
  }

  #showState(item, sending) {
    if (item.dataset.state === sending.state) return;
    item.dataset.state = sending.state;
    const state = item.querySelector(".state");
    item.classList.remove("slow");
    if (sending.state === "sending") {
      state.replaceChildren(...sign("◌", " sending…"));
      setTimeout(() => item.classList.toggle("slow", item.dataset.state === "sending"), SLOW_MS);
    } else if (sending.state === "stored") state.replaceChildren(...sign("✓", "stored"));
    else {
      state.replaceChildren(
        `Not sent. ${sending.reason} `,
        button("Try again", () => this.#actions.again(this.room, sending)),
        button("Discard", () => this.#actions.discard(this.room, sending)),
      );
    }
  }

  /** Whether a message stands with the one before it, begins a day, or is the first that was not read yet. */
  #group(item, message, before) {
    const from = message.from ?? this.room.user;
    const newDay = !before || new Date(before.at).toDateString() !== new Date(message.at).toDateString();
    const together =
      !newDay && (before.from ?? this.room.user) === from && Math.abs(message.at - before.at) < TOGETHER_MS;
    const read = this.#unreadFrom;
    const firstNew = Boolean(read && before && before.id === read && !message.key && from !== this.room.user);
    const signs = `${newDay} ${together} ${firstNew}`;
    if (item.dataset.signs === signs) return;
    item.dataset.signs = signs;
    item.classList.toggle("together", together && !firstNew);
    item.querySelector(":scope > .divider")?.remove();
    const words = [newDay && dayName(message.at), firstNew && "New"].filter(Boolean).join(" · ");
    if (words) item.prepend(element("p", { class: firstNew ? "divider new" : "divider" }, element("span", {}, words)));
  }
}

function sign(glyph, word) {
  return [element("span", { "aria-hidden": "true" }, glyph), element("span", { class: "visually-hidden" }, word)];
}

function dayName(at) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
  return ["Today", "Yesterday"][days] ?? DAY.format(at);
}
