// The page: who is signed in, which room is open, and what is said where. The chat itself is in chat.js.

import * as api from "./api.js";
import { Chat, LOBBY } from "./chat.js";
import { Conversation } from "./conversation.js";
import { byId, colour, initial, oncePerFrame } from "./elements.js";
import { drawMembers, drawRooms } from "./lists.js";
import { ROOM_NAME, names } from "./room.js";

const NOTICE_MS = 8_000;
const CAUGHT_UP_MS = 6_000;
const FIND_AFTER_MS = 200;
const PRESENCE_EVERY_MS = 20_000;

const wide = matchMedia("(min-width: 48rem)");
const text = byId("text");

let chat;
let conversation;
let room = null; // the one that is open
const updateRooms = oncePerFrame(() => drawRooms(chat, room));

// Signing in

async function enter() {
  try {
    const user = await api.signedIn();
    if (user) return start(user);
    byId("account-error").textContent = "";
  } catch (refused) {
    byId("account-error").textContent = refused.message;
  }
  byId("door").hidden = false;
  byId("username").focus();
}

/** Send a form; what is wrong is said in `fault`. Whether it worked. */
async function submitted(form, fault, send) {
  const buttons = form.querySelectorAll("button");
  fault.textContent = "";
  for (const button of buttons) button.disabled = true;
  try {
    await send();
    return true;
  } catch (refused) {
    fault.textContent = refused.message;
    return false;
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

byId("account").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [name, password] = [byId("username").value, byId("password").value];
  const isNew = event.submitter?.value === "sign-up";
  const worked = await submitted(byId("account"), byId("account-error"), async () => {
    if (isNew) await api.signUp(name, password);
    await api.signIn(name, password);
  });
  if (!worked) return byId("password").select();
  byId("account").reset();
  byId("door").hidden = true;
  await enter();
});

let askedAgain = null;

/** Ask for the password again, over whatever is shown. Resolves when there is a fresh login. */
function askToSignIn() {
  askedAgain ??= new Promise((resolve) => {
    byId("again-name").value = chat.user;
    showAgain();
    byId("again-form").onsubmit = async (event) => {
      event.preventDefault();
      const password = byId("again-password");
      if (!(await submitted(byId("again-form"), byId("again-error"), () => api.signIn(chat.user, password.value)))) {
        return password.select();
      }
      byId("again-form").reset();
      askedAgain = null;
      byId("again").close();
      text.focus();
      resolve();
    };
  });
  return askedAgain;
}

function showAgain() {
  byId("again").showModal();
  byId("again-password").focus();
}

// Escape closes it in a browser that does not know `closedby`. Without a fresh login it stays.
byId("again").addEventListener("close", () => askedAgain && !byId("again").open && showAgain());
for (const id of ["sign-out", "again-leave"]) {
  byId(id).addEventListener("click", async () => {
    await api.signOut().catch(() => {});
    location.replace(location.pathname);
  });
}

// The chat

function start(user) {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  chat = new Chat(user, url.href, askToSignIn);
  conversation = new Conversation(
    { scroller: byId("scroller"), list: byId("messages"), begin: byId("begin"), newer: byId("newer") },
    {
      older: (of) => chat.older(of),
      read: (of) => chat.markRead(of),
      again: (of, sending) => {
        chat.discard(of, sending);
        chat.send(of, sending.text);
      },
      discard: (of, sending) => {
        chat.discard(of, sending);
        text.focus();
      },
    },
  );
  chat.addEventListener("change", ({ detail }) => changed(detail));
  chat.addEventListener("connection", drawConnection);
  chat.addEventListener("rooms", updateRooms);
  chat.addEventListener("notice", ({ detail }) => notice(detail));
  chat.addEventListener("caught up", ({ detail }) => caughtUp(detail));
  chat.addEventListener("other user", () => location.reload());
  byId("me").textContent = user;
  byId("me-avatar").textContent = initial(user);
  byId("me-avatar").style.setProperty("--hue", colour(user));
  byId("chat").hidden = false;
  chat.start();
  drawConnection();
  const first = chat.rooms.keys().next().value;
  if (wide.matches && !asked()) location.replace(`#room/${first}`);
  route();
  setInterval(() => document.hidden || !room?.members || chat.state !== "open" || chat.lookAround(room), PRESENCE_EVERY_MS);
}

function changed({ room: where, what }) {
  if (what === "message" || what === "history") {
    if (where === room && what === "message") announce(where.messages.at(-1));
    updateRooms();
  }
  if (where !== room) return;
  if (what === "members") return drawMembers(room);
  if (what === "typing" || what === "message") drawTyping();
  if (what !== "typing") conversation.update();
}

// What a screen reader says of a message; what is loaded from the past is not said.
function announce({ from, text: said }) {
  if (from !== chat.user) byId("announcer").textContent = `${from}: ${said.slice(0, 300)}`;
}

function drawTyping() {
  const typing = [...room.typing.keys()];
  byId("typing").textContent = typing.length ? `${names(typing)} ${typing.length > 1 ? "are" : "is"} typing…` : "";
}

// Which room

/** What stands in the address for a room; null for none. */
function asked() {
  const [, name = null] = /^#room\/(.+)$/.exec(location.hash) ?? [];
  return name;
}

function route() {
  if (!chat) return;
  const name = asked();
  document.body.dataset.view = name ? "talk" : "rooms";
  if (!name) {
    room = wide.matches ? room : null;
    return updateRooms();
  }
  if (ROOM_NAME.test(name)) return openRoom(name);
  history.replaceState(null, "", `#room/${LOBBY}`);
  openRoom(LOBBY);
  notice("No room has such a name: small letters, digits and - make one.");
}

function openRoom(name) {
  const wanted = chat.join(name);
  if (!wanted || wanted === room) return;
  room = wanted;
  byId("room-title").textContent = room.name;
  byId("text").placeholder = `Write to ${room.name}`;
  byId("notice").textContent = "";
  byId("announcer").textContent = "";
  conversation.open(room);
  drawMembers(room);
  drawTyping();
  updateRooms();
  chat.find(byId("room-name").value = "");
  drawCreate("");
  // On a phone the keyboard would cover half of it.
  if (wide.matches) text.focus();
  else byId("room-title").focus();
}

addEventListener("hashchange", route);

byId("leave").addEventListener("click", () => {
  const left = room;
  if (!wide.matches) showPeople(false);
  room = null;
  chat.leave(left);
  // The last one left leads back to the lobby: somewhere one must be, where both are shown.
  location.hash = wide.matches ? `room/${chat.rooms.keys().next().value ?? LOBBY}` : "";
});

// Finding and creating

let findTimer;

function drawCreate(name) {
  const create = byId("create");
  create.hidden = !name || chat.known.rooms.includes(name);
  create.textContent = `Create “${name}”`;
}

const roomName = () => byId("room-name").value.trim().toLowerCase().replace(/[\s_]+/g, "-");

byId("room-name").addEventListener("input", () => {
  const name = roomName();
  const isName = name === "" || ROOM_NAME.test(name);
  byId("find-error").textContent = isName ? "" : "Small letters, digits and - make a name.";
  drawCreate("");
  clearTimeout(findTimer);
  if (!isName) return;
  findTimer = setTimeout(async () => {
    await chat.find(name);
    if (name === roomName()) drawCreate(name);
  }, FIND_AFTER_MS);
});

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = roomName();
  if (!ROOM_NAME.test(name)) return;
  byId("room-name").value = "";
  if (location.hash === `#room/${name}`) route();
  location.hash = `room/${name}`;
});

// Writing

function grow() {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, 180)}px`;
}

text.addEventListener("input", () => {
  grow();
  if (room && text.value) chat.type(room);
});

text.addEventListener("keydown", (event) => {
  // While an input method composes, Enter chooses a word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("compose").requestSubmit();
});

byId("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = text.value.trim();
  if (!said || !room) return;
  text.value = "";
  grow();
  chat.send(room, said);
  requestAnimationFrame(() => conversation.toEnd());
  text.focus();
});

// Who is here

function showPeople(shown) {
  document.body.classList.toggle("with-people", shown);
  byId("people-button").setAttribute("aria-expanded", String(shown));
  if (shown && room) chat.lookAround(room);
}

byId("people-button").addEventListener("click", () => {
  const shown = !document.body.classList.contains("with-people");
  showPeople(shown);
  if (shown && !wide.matches) byId("people-close").focus();
});

byId("people-close").addEventListener("click", () => {
  showPeople(false);
  byId("people-button").focus();
});

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || byId("again").open) return;
  if (document.body.classList.contains("with-people") && !wide.matches) byId("people-close").click();
});

if (matchMedia("(min-width: 64rem)").matches) document.body.classList.add("with-people");
byId("people-button").setAttribute("aria-expanded", String(document.body.classList.contains("with-people")));

// The connection, in words

let caughtUpTimer;

function drawConnection() {
  const { state, worker, failures } = chat;
  document.body.dataset.connection = state;
  const where = state === "open" ? `via ${worker}` : state === "closed" ? "not connected" : `${state}…`;
  byId("where").textContent = byId("via").textContent = where;
  clearTimeout(caughtUpTimer);
  byId("connection").textContent = {
    open: "",
    closed: "Not connected. Reload the page to come back.",
    connecting: failures ? "The chat does not answer yet. Trying again…" : "",
    reconnecting: navigator.onLine
      ? "Reconnecting… What you write is sent then."
      : "You are offline. What you write is sent when you are back.",
  }[state];
}

function caughtUp(messages) {
  byId("connection").textContent = `Connected to ${chat.worker} again. Caught up: ${count(messages)}.`;
  caughtUpTimer = setTimeout(() => (byId("connection").textContent = ""), CAUGHT_UP_MS);
}

function count(messages) {
  return messages === 1 ? "1 message" : `${messages} messages`;
}

addEventListener("online", () => chat && drawConnection());
addEventListener("offline", () => chat && drawConnection());
document.addEventListener("visibilitychange", () => conversation?.update());

let noticeTimer;

function notice(words) {
  byId("notice").textContent = words;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (byId("notice").textContent = ""), NOTICE_MS);
}

enter();
