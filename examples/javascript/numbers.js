// Which members of a set stand for a number: see "Numbers" in docs/CONTRACT.md. schemas/vectors/numbers.json holds it.

import { CannotAsk } from './refusal.js';

const E164 = /^\+[1-9][0-9]{6,14}$/;
const NORTH_AMERICAN = /^\+1(?![2-9][0-9]{2}[2-9][0-9]{6}$)/; // what begins so, and is none
// A zero behind the country code is a trunk prefix that somebody left in, but for these countries.
const TRUNK =
  /^\+(?:7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[03578]|9[679])[0-9])0/;
const ZERO = /^\+(?:39|225|229|241|242|247|378|800|881|888)0/;

// Argentina without the area, and Ivory Coast before 2021.
const GIVEN_UP = /^\+(?:5415|225[0-9]{8}$)/;

// One subscriber, two spellings: a number as it is today, and as it stood in older ledgers or is written still.
const PLANS = [
  { now: /^\+52([2-9][0-9]{9})$/, then: '521$1', old: /^\+521([2-9][0-9]{9})$/, today: '52$1' },
  { now: /^\+55([1-9]{2})9([689][0-9]{7})$/, then: '55$1$2', old: /^\+55([1-9]{2})([689][0-9]{7})$/, today: '55$19$2' },
  { now: /^\+22901([2-9][0-9]{7})$/, then: '229$1', old: /^\+229([2-9][0-9]{7})$/, today: '22901$1' },
  // In Argentina both are written today.
  { now: /^\+549((?:11|[23][0-9])[0-9]{8})$/, then: '54$1' },
  { now: /^\+54((?:11|[23][0-9])[0-9]{8})$/, then: '549$1' },
];

/** Returns the members that stand for a number, one or two. Throws CannotAsk, without the number, where it is not in E.164. */
export function membersOf(number) {
  if (typeof number !== 'string' || !E164.test(number)) {
    throw new CannotAsk('The number is not in E.164, a plus sign and 7 to 15 digits: it would be found in no set.');
  }
  if (NORTH_AMERICAN.test(number) || (TRUNK.test(number) && !ZERO.test(number)) || GIVEN_UP.test(number)) {
    throw new CannotAsk('The number can be nobody’s: a digit is missing, or one too many.');
  }
  for (const { now, then, old, today } of PLANS) {
    if (now.test(number)) return [number.slice(1), number.replace(now, then)];
    if (old?.test(number)) return [number.replace(old, today), number.slice(1)];
  }
  return [number.slice(1)];
}
