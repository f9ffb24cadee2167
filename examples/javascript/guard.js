// Asks before a send: may this location text this number now? Only ALLOWED may send.

import { readFileSync } from 'node:fs';
import { crc32 } from './crc32.js';
import { Garbled, read } from './answer.js';
import { codeOf, scriptOf, TookTooLong } from './connection.js';

const SCRIPT = scriptOf(readFileSync(new URL('verdict.lua', import.meta.url), 'utf8'));
const E164 = /^\+[1-9][0-9]{6,14}$/;
const LONGEST_LOCATION = 256;
// What workers take for blank: white space, and five control characters that trim() leaves.
const BLANK = /^[\s\x1c-\x1f\x85]*$/;
const REFUSALS = ['NOAUTH', 'WRONGPASS', 'NOPERM'];

/** There is no question to ask: the message says why, without the number. */
export class CannotAsk extends Error {}

let words = 0;

/** Returns the keys of a location, as { meta, set }. Throws CannotAsk for what can be no location. */
export function keysOf(locationId, buckets) {
  if (typeof locationId !== 'string' || BLANK.test(locationId) || [...locationId].length > LONGEST_LOCATION) {
    throw new CannotAsk('The location is a text, not blank, of 256 characters at most: it would be found in no set.');
  }
  if (!locationId.isWellFormed()) {
    throw new CannotAsk('The location holds half a character: as UTF-8 it would be another location.');
  }
  const prefix = `optout:{${crc32(Buffer.from(locationId)) % buckets}.${buckets}}:`;
  return { meta: `${prefix}meta`, set: `${prefix}set:${locationId}` };
}

/** Returns the member that stands for a number. Throws CannotAsk, without the number, where it is not in E.164. */
export function memberOf(number) {
  if (typeof number !== 'string' || !E164.test(number)) {
    throw new CannotAsk('The number is not in E.164, a plus sign and 7 to 15 digits: it would be found in no set.');
  }
  return number.slice(1);
}

/**
 * Returns { kind, reason, at, fresh } for a number in E.164 at a location: kind is ALLOWED, SUPPRESSED or UNKNOWN, reason
 * says why it is UNKNOWN. It holds for this moment: never keep it. Throws CannotAsk for what can be no location or number.
 */
export async function verdict(connection, locationId, number, { buckets = 64, maxStaleness = 300 } = {}) {
  const { meta, set } = keysOf(locationId, buckets);
  const member = memberOf(number);
  const word = String((words += 1));
  try {
    const answer = await connection.ask(SCRIPT, [meta, set], [word, member]);
    return read(answer, word, 1, maxStaleness)[0];
  } catch (error) {
    if (error instanceof Garbled) connection.close();
    return { kind: 'UNKNOWN', reason: whyUnknown(error), at: null, fresh: null };
  }
}

/** Why there is no answer. Whatever it is, nothing is known. */
function whyUnknown(error) {
  const code = codeOf(error);
  if (error instanceof TookTooLong) return 'timeout';
  if (error instanceof Garbled || error.message.includes('unknown command')) return 'garbled';
  if (REFUSALS.includes(code) || error.message.startsWith('ERR DB index')) return 'refused'; // somebody must be told
  if (error.message.includes('WRONGTYPE')) return 'unvouched';
  if (code === 'MOVED' || code === 'ASK') return 'wrong mode';
  return 'unreachable';
}
