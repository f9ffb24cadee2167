// Asks before a send: may this location text this number now? Only ALLOWED may send.

import { readFileSync } from 'node:fs';
import { crc32 } from './crc32.js';
import { Garbled, read } from './answer.js';
import { codeOf, scriptOf, TookTooLong } from './connection.js';
import { membersOf } from './numbers.js';
import { CannotAsk } from './refusal.js';

export { CannotAsk };

const SCRIPT = scriptOf(readFileSync(new URL('verdict.lua', import.meta.url), 'utf8'));
const LONGEST_LOCATION = 256;
// What workers take for blank: white space, and five control characters that trim() leaves.
const BLANK = /^[\s\x1c-\x1f\x85]*$/;
const REFUSALS = ['NOAUTH', 'WRONGPASS', 'NOPERM'];

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

/**
 * Returns { kind, reason, at, fresh } for a number in E.164 at a location: kind is ALLOWED, SUPPRESSED or UNKNOWN, reason
 * says why it is UNKNOWN. It holds for this moment: never keep it. Throws CannotAsk for what can be no location or number.
 */
export async function verdict(connection, locationId, number, { buckets = 64, maxStaleness = 300 } = {}) {
  const { meta, set } = keysOf(locationId, buckets);
  const members = membersOf(number);
  const word = String((words += 1));
  try {
    const answer = await connection.ask(SCRIPT, [meta, set], [word, ...members]);
    const verdicts = read(answer, word, members.length, maxStaleness);
    return verdicts.find(({ kind }) => kind === 'SUPPRESSED') ?? verdicts[0]; // under either spelling
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
