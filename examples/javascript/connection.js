// One connection to Redis, and all that may be done when it fails: see the table of errors in docs/CONTRACT.md.

import { createHash } from 'node:crypto';
import { createClient, ErrorReply } from '@redis/client';

/** Redis did not answer within the deadline. */
export class TookTooLong extends Error {}

/** Returns the first word of an error that Redis answered with, as in NOSCRIPT; an empty text for any other error. */
export const codeOf = (error) => (error instanceof ErrorReply ? error.message.split(' ', 1)[0] : '');

/** Says whether a text can be decoded: the client does that when it connects, and would never connect otherwise. */
const isEncoded = (text) => {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
};

/** Keeps one connection, made when it is needed and given up with the first question that it leaves unanswered. */
export class Connection {
  #url;
  #timeout;
  #client;
  #ready;

  /**
   * url: redis://user:password@host:port/0. timeout: milliseconds for connecting and answering together.
   * Throws TypeError for what is no such URL.
   */
  constructor(url, timeout = 1000) {
    const { protocol, hostname, pathname, username, password } = new URL(url);
    if (!['redis:', 'rediss:'].includes(protocol) || !hostname || !/^\/?[0-9]*$/.test(pathname) || !isEncoded(username) || !isEncoded(password)) {
      throw new TypeError('A URL of Redis is redis://user:password@host:port/0 or rediss://, with the number of a database.');
    }
    if (!(timeout > 0 && timeout < 2 ** 31)) throw new TypeError('The timeout is a number of milliseconds above 0.');
    this.#url = url;
    this.#timeout = timeout;
  }

  /** Returns what the script answers, within the timeout. Throws TookTooLong, an ErrorReply, or why there is no connection. */
  async ask(script, keys, args) {
    const deadline = performance.now() + this.#timeout;
    const question = { over: false };
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new TookTooLong('Redis did not answer in time')), this.#timeout);
    });
    try {
      const answer = await Promise.race([this.#askTwice(question, script, keys, args), late]);
      // A process that was suspended may find the answer before it finds that its time is over.
      if (performance.now() > deadline) throw new TookTooLong('Redis answered too late');
      return answer;
    } catch (error) {
      if (error instanceof TookTooLong) this.close(); // what still comes is an answer to nobody
      throw error;
    } finally {
      question.over = true;
      clearTimeout(timer);
    }
  }

  /** Gives up the connection. The next question makes a new one. */
  close() {
    this.#forget(this.#client);
  }

  // A connection that was lost is no answer: once more on a new one. What Redis said is one, whatever it said.
  async #askTwice(question, ...asked) {
    try {
      return await this.#askOnce(...asked);
    } catch (error) {
      if (question.over || error instanceof ErrorReply) throw error;
      return this.#askOnce(...asked);
    }
  }

  async #askOnce(script, keys, args) {
    const client = await this.#connected();
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await client.sendCommand(['EVALSHA_RO', script.digest, ...rest]);
    } catch (error) {
      if (codeOf(error) !== 'NOSCRIPT') throw error;
      return client.sendCommand(['EVAL_RO', script.source, ...rest]);
    }
  }

  // Questions that come while it connects wait for the same connection.
  async #connected() {
    if (!this.#client) {
      const client = createClient({
        url: this.#url,
        RESP: 2,
        socket: { connectTimeout: this.#timeout, reconnectStrategy: false },
        disableOfflineQueue: true, // nothing waits in memory for a server that may come back
        disableClientInfo: true, // a user that can only ask may not call CLIENT
        maintNotifications: 'disabled', // nobody but us makes the deadline longer
      });
      const lost = () => this.#forget(client);
      client.on('error', lost).on('end', lost);
      this.#client = client;
      this.#ready = client.connect();
    }
    const [client, ready] = [this.#client, this.#ready];
    try {
      await ready;
    } catch (error) {
      this.#forget(client);
      throw error;
    }
    return client;
  }

  #forget(client) {
    if (client && client === this.#client) {
      const ready = this.#ready;
      this.#client = this.#ready = undefined;
      client.destroy();
      // One that is still connecting connects all the same, and would stay for as long as the process.
      ready.then(() => client.destroy(), () => {});
    }
  }
}

/** Returns a script with the digest by which Redis knows it. */
export const scriptOf = (source) => ({ source, digest: createHash('sha1').update(source).digest('hex') });
