// One room of the chat. The browser sends the login cookie with the handshake; no token is in a script's reach.

const ROOM = "room/lobby";
const LONGEST_PAUSE_MS = 15_000;

const byId = (id) => document.getElementById(id);
const [state, leave, account, messages, compose] = ["state", "leave", "account", "messages", "compose"].map(byId);

let socket = null;
let failures = 0;
let last = null; // {position, epoch} of what was shown last, to ask for what was missed since

function show(view, text) {
  account.hidden = view !== "signed out";
  compose.hidden = leave.hidden = view !== "signed in";
  state.textContent = text;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws`, ["chat.v1"]);
  let opened = false;
  socket.onopen = () => {
    opened = true;
    failures = 0;
    socket.send(JSON.stringify({ type: "subscribe", topic: ROOM, ...(last && { since: last }) }));
  };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = (event) => {
    // A refused handshake looks to a script like a server that is not there. Someone not yet in is asked to sign in.
    if (!opened && !last) return show("signed out", failures ? "That did not work. Is the server there?" : "");
    if (event.code === 1000 || event.code === 1008 || (event.code >= 4500 && event.code <= 4999)) {
      return show("signed out", event.reason);
    }
    failures += 1;
    show("away", "Connection lost, coming back ...");
    setTimeout(connect, Math.random() * Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures));
  };
}

function receive(message) {
  if (message.type === "welcome") {
    show("signed in", `${message.user} on ${message.worker}`);
  } else if (message.type === "subscribed") {
    if (message.recovered === false) append("", "Some messages are missing here.");
    last = { position: message.recovered ? last.position : message.position, epoch: message.epoch };
  } else if (message.type === "send") {
    last = { ...last, position: message.id };
    append(message.from, String(message.data));
  } else if (message.type === "error") {
    append("", message.detail);
  }
}

function append(author, text) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = author;
  item.append(name, text);
  messages.append(item);
  item.scrollIntoView();
}

async function signIn(event) {
  event.preventDefault();
  const form = new FormData(account);
  if (event.submitter.value === "signup") {
    const body = JSON.stringify(Object.fromEntries(form));
    const created = await fetch("/api/users", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!created.ok) return show("signed out", await reason(created));
  }
  const answer = await fetch("/api/token", { method: "POST", body: new URLSearchParams(form) });
  if (!answer.ok) return show("signed out", await reason(answer));
  account.reset();
  failures = 1;
  connect();
}

async function reason(response) {
  const { detail } = await response.json().catch(() => ({ detail: response.statusText }));
  return typeof detail === "string" ? detail : detail.map((fault) => `${fault.loc.at(-1)}: ${fault.msg}`).join("; ");
}

account.addEventListener("submit", (event) => {
  signIn(event).catch(() => show("signed out", "The server does not answer."));
});

compose.addEventListener("submit", (event) => {
  event.preventDefault();
  socket.send(JSON.stringify({ type: "send", topic: ROOM, data: compose.elements.text.value }));
  compose.reset();
});

leave.addEventListener("click", async () => {
  await fetch("/api/token", { method: "DELETE" });
  location.reload();
});

connect();
