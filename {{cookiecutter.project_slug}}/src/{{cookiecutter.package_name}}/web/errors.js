// What ends a client, or a request of it.

/** The client is closed and does not come back. `closeCode` is why the server closed it, null when it did not. */
export class ConnectionEnded extends Error {
  name = "ConnectionEnded";

  constructor(message, { closeCode = null, cause } = {}) {
    super(message, { cause });
    this.closeCode = closeCode;
  }
}

/** The connection was that of another user, `user`, than the one that the client is for. Nothing was sent on it. */
export class OtherUser extends ConnectionEnded {
  name = "OtherUser";

  constructor(user, expected) {
    super(`the server takes this client for ${user}, not for ${expected}: make another client`);
    this.user = user;
  }
}

/** The server answered a request with an error that trying again does not mend; `code` says which. */
export class RequestRefused extends Error {
  name = "RequestRefused";

  constructor(code, detail) {
    super(`${code}: ${detail}`);
    this.code = code;
  }
}

/** Thrown by a source of tokens that will give none: it ends the client. */
export class InvalidToken extends Error {
  name = "InvalidToken";
}
