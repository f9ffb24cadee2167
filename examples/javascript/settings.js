// What the environment says, in the words of our own commands.

import { Connection } from './connection.js';

/**
 * Returns the connection, the options of verdict(), and for how many milliseconds an UNKNOWN message is held. Throws
 * TypeError, with a sentence, for what cannot be meant.
 */
export function fromEnvironment(environment = process.env) {
  const number = (name, fallback) => {
    const text = environment[name] ?? String(fallback);
    if (!/^[0-9]+(\.[0-9]+)?$/.test(text) || Number(text) <= 0) {
      throw new TypeError(`${name} is a number above 0, and is set to something else.`);
    }
    return Number(text);
  };
  const buckets = number('OPTOUT_BUCKETS', 64);
  if (!Number.isSafeInteger(buckets)) throw new TypeError('OPTOUT_BUCKETS is a whole number.');
  let connection;
  try {
    const timeout = number('OPTOUT_REDIS_TIMEOUT', 1) * 1000;
    connection = new Connection(environment.OPTOUT_REDIS_URL ?? '', timeout);
  } catch (error) {
    if (error.code === 'ERR_INVALID_URL') {
      throw new TypeError('OPTOUT_REDIS_URL is not set, or is no URL: redis://user:password@host:port/0 is one.');
    }
    throw error;
  }
  const options = { buckets, maxStaleness: number('OPTOUT_MAX_STALENESS', 300) };
  return { connection, options, holdMs: number('HOLD_SECONDS', 60) * 1000 };
}
