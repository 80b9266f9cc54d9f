// What the page asks the gateway over HTTP. The login is a cookie that no script can read.

const ANSWER_MS = 15_000;

/** The server refused, or could not be reached; the text is for people. */
export class Refused extends Error {
  constructor(text, status = null) {
    super(text);
    this.status = status; // null where there was no answer
  }
}

/** Who is signed in; null for nobody. */
export async function signedIn() {
  return (await ask("GET", "/api/session")).username;
}

export function signUp(username, password) {
  return ask("POST", "/api/users", { json: { username, password } });
}

export function signIn(username, password) {
  return ask("POST", "/api/token", { form: { username, password } });
}

export function signOut() {
  return ask("DELETE", "/api/token");
}

/** Rooms whose names begin so: {rooms, more}. */
export function findRooms(beginning) {
  return ask("GET", `/api/rooms?${new URLSearchParams({ beginning })}`);
}

/** Put a room into the list. Changes nothing where it is there. */
export function addRoom(name) {
  return ask("POST", "/api/rooms", { json: { name } });
}

async function ask(method, path, { json, form } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: json && { "Content-Type": "application/json" },
      signal: AbortSignal.timeout(ANSWER_MS),
      body: json ? JSON.stringify(json) : form && new URLSearchParams(form),
    });
  } catch {
    throw new Refused("The server cannot be reached. Try again in a moment.");
  }
  if (answer.status === 204) return null;
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(inWords(body.detail) ?? `The server answered ${answer.status}.`, answer.status);
  return body;
}

function inWords(detail) {
  if (Array.isArray(detail)) return detail.map((fault) => sentence(`${fault.loc.at(-1)}: ${fault.msg}`)).join(" ");
  return typeof detail === "string" ? sentence(detail) : null;
}

export function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
}
