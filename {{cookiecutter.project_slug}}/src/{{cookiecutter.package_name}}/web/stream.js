// Between a client that hears messages and whoever iterates over them.

/** The messages of one subscription, in order, for `for await`. Ends with the client, throws what ended it. */
export class Stream {
  paused = false; // while the server was asked to send no more
  #items = [];
  #ended = false;
  #waiting = [];
  #onTaken;
  #onHole;
  #keep;

  constructor(topic, { onTaken, onHole, keep = Infinity }) {
    this.topic = topic;
    this.#onTaken = onTaken;
    this.#onHole = onHole;
    this.#keep = keep;
  }

  /** How many messages wait. */
  get length() {
    return this.#items.length;
  }

  /** The number of the item that is next. Numbers grow with the time of arrival, over all streams of a client. */
  get oldest() {
    return this.#items[0].number;
  }

  put(number, item) {
    this.#items.push({ number, ...item });
    if (this.#items.length > this.#keep) this.#items.shift();
    this.#wake();
  }

  end() {
    this.#ended = true;
    this.#wake();
  }

  /** The next message; undefined for a hole, which was told. Throws an error that was put. */
  take() {
    const { message, hole, error } = this.#items.shift();
    this.#onTaken(this);
    if (error) throw error;
    if (hole) this.#onHole(this.topic);
    return message;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    for (;;) {
      while (this.#items.length) {
        const value = this.take();
        if (value) return { value, done: false };
      }
      if (this.#ended) return { value: undefined, done: true };
      await new Promise((resolve) => this.#waiting.push(resolve));
    }
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
