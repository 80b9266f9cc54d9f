// The way to the server: one connection after the other, its time and its token. What is said on it comes from a session.

import { ConnectionEnded, InvalidToken, OtherUser } from "./errors.js";
import { mayReconnect } from "./session.js";

const SUBPROTOCOL = "chat.v1";
const LOST = 1006; // ended without a close frame (RFC 6455 §7.4.1)

/** How long a handshake may take. */
const OPEN_SECONDS = 10;

/** A connection that lasted so long starts the backoff anew. One that is accepted and closed at once does not. */
const LASTING_SECONDS = 2;

/**
 * Keeps a session connected. `token`, `user`, `heartbeatSeconds` and `backoff` are those of the client. `onEvent` gets
 * what the session makes of each message, `onLost` is called when a connection has ended.
 */
export class Link {
  #url;
  #session;
  #options;
  #socket = null;
  #stopped = false;
  #leave = () => {}; // ends the connection that there is, or the wait for the next one
  #timers = new Set();
  #retrying = false;

  constructor(url, session, options) {
    this.#url = url;
    this.#session = session;
    this.#options = options;
  }

  /** Connect, and come back, until it is stopped. Rejects with `ConnectionEnded` when the client must not come back. */
  async run() {
    let wait = this.#options.backoff();
    while (!this.#stopped) {
      const token = await this.#token();
      if (token !== undefined && !this.#stopped) {
        const opened = performance.now();
        await this.#talk(token);
        this.#options.onLost();
        if (performance.now() - opened > LASTING_SECONDS * 1_000) wait = this.#options.backoff();
      }
      if (!this.#stopped) await this.#sleep(wait.next().value);
    }
  }

  stop() {
    this.#stopped = true;
    this.#leave();
  }

  /** End the connection, and come back. */
  leave() {
    this.#leave();
  }

  /** Send what the session has to send. */
  flush() {
    if (!this.#socket) return;
    for (const text of this.#session.toSend()) this.#socket.send(text);
  }

  /** A token; null where none is needed, undefined when there may be one later. */
  async #token() {
    const { token = null } = this.#options;
    try {
      return typeof token === "function" ? await token() : token;
    } catch (error) {
      if (error instanceof InvalidToken) {
        throw new ConnectionEnded(`there is no token: ${error.message}`, { cause: error });
      }
      console.warn("no fresh token:", error);
      return undefined;
    }
  }

  /** Use a connection from handshake to end. Rejects with `ConnectionEnded` when the client must not come back. */
  #talk(token) {
    const offered = token === null ? [SUBPROTOCOL] : [SUBPROTOCOL, `bearer.${token}`];
    const socket = new WebSocket(this.#url, offered);
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        // A browser may take minutes to say that a connection is closed to which nobody answers: it is not waited for.
        socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
        socket.close();
        this.#socket = null;
        this.#leave = () => {};
        this.#retrying = false;
        for (const timer of this.#timers) clearTimeout(timer);
        this.#timers.clear();
        this.#session.disconnected();
        settle(value);
      };
      this.#leave = () => finish(resolve);
      // Why a handshake failed is not for scripts to know, and Node 20 says no more than this. Later, `close` says it.
      socket.onerror = this.#leave;
      socket.onclose = ({ code, reason }) => {
        if (mayReconnect(code || LOST)) return finish(resolve);
        const why = `the server closed the connection with ${code} ${reason}`.trim();
        finish(reject, new ConnectionEnded(why, { closeCode: code }));
      };
      const handshake = this.#after(OPEN_SECONDS, this.#leave);
      let heard;
      socket.onopen = () => {
        this.#cancel(handshake);
        socket.onerror = () => {};
        this.#socket = socket;
        heard = performance.now();
        this.#watch(() => heard);
      };
      socket.onmessage = ({ data }) => {
        heard = performance.now();
        try {
          this.#receive(data);
        } catch (error) {
          finish(reject, error);
        }
      };
    });
  }

  #receive(text) {
    let events;
    try {
      events = this.#session.received(text);
    } catch (error) {
      throw new ConnectionEnded(`the server does not speak the protocol: ${error.message}`, { cause: error });
    }
    for (const event of events) this.#handle(event);
    this.flush();
  }

  /** Scripts cannot send pings: a silent server is asked for an echo, and left when none comes. */
  #watch(heard) {
    const { heartbeatSeconds } = this.#options;
    this.#after(heartbeatSeconds, () => {
      const before = heard();
      if (performance.now() - before < heartbeatSeconds * 1_000) return this.#watch(heard);
      this.#session.echo();
      this.flush();
      this.#after(heartbeatSeconds, () => (heard() === before ? this.#leave() : this.#watch(heard)));
    });
  }

  #handle(event) {
    switch (event.kind) {
      case "welcomed":
        this.#welcomed(event.welcome);
        return this.#options.onEvent(event);
      case "postponed":
        if (!this.#retrying) this.#retry(this.#options.backoff());
        return undefined;
      case "drain":
        return this.#after(Math.random() * event.withinSeconds, this.#leave);
      case "token expired":
        return this.#refresh();
      default:
        return this.#options.onEvent(event);
    }
  }

  /** What waits to be sent is sent now, when it is known under whose name. */
  #welcomed(welcome) {
    const { user = welcome.user } = this.#options;
    if (welcome.user !== user) throw new OtherUser(welcome.user, user);
    this.#session.connected();
  }

  #retry(wait) {
    this.#retrying = this.#session.refused;
    if (!this.#retrying) return;
    this.#after(wait.next().value, () => {
      this.#session.retry();
      this.flush();
      this.#retry(wait);
    });
  }

  /** Send a fresh token. Without one the server ends the connection, and the next handshake asks again. */
  async #refresh() {
    const { token } = this.#options;
    if (typeof token !== "function") return;
    const socket = this.#socket;
    try {
      const fresh = await token();
      if (socket !== this.#socket) return; // the handshake of another connection took one of its own
      if (fresh === null) return this.#leave(); // the cookie is fresh: come back with it
      this.#session.authenticate(fresh);
      this.flush();
    } catch (error) {
      console.warn("no fresh token for this connection:", error);
    }
  }

  /** Call `then` in a while, on this connection. */
  #after(seconds, then) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, seconds * 1_000);
    this.#timers.add(timer);
    return timer;
  }

  #cancel(timer) {
    clearTimeout(timer);
    this.#timers.delete(timer);
  }

  #sleep(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1_000);
      this.#leave = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
