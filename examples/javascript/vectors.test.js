// `npm test` holds guard.js and answer.js to the vectors of schemas/vectors.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { Garbled, read } from './answer.js';
import { CannotAsk, keysOf } from './guard.js';
import { membersOf } from './numbers.js';

const vectorsOf = (name) =>
  JSON.parse(readFileSync(new URL(`../../schemas/vectors/${name}.json`, import.meta.url), 'utf8')).vectors;

for (const vector of vectorsOf('buckets')) {
  test(`where ${JSON.stringify(vector.location_id)} of ${vector.buckets} lives`, () => {
    const { location_id: locationId, buckets, meta, set, patient_number: number, member } = vector;
    assert.deepEqual(keysOf(locationId, buckets), { meta, set });
    assert.ok(membersOf(number).includes(member));
  });
}

for (const { answer, word, count, max_staleness: maxStaleness, verdicts, close, why } of vectorsOf('verdicts')) {
  test(`what an answer means: ${why}`, () => {
    const kinds = () => read(answer, word, count, maxStaleness).map(({ kind }) => kind);
    if (close) assert.throws(kinds, Garbled);
    else assert.deepEqual(kinds(), verdicts);
  });
}

// It takes E.164 alone: whatever else is written is refused, and never looked for as it stands.
for (const { text, number, members, why } of vectorsOf('numbers')) {
  test(`what ${JSON.stringify(text)} is: ${why}`, () => {
    const found = () => membersOf(text);
    if (text === number) assert.deepEqual(found(), members);
    else if (members.length < 2 || !/^\+[0-9]+$/.test(text)) assert.throws(found, CannotAsk);
    else assert.deepEqual(found(), members); // the other spelling
  });
}

test('what is no location or no number in E.164 is not asked about', () => {
  for (const locationId of ['', ' ', '\t\u00a0', 'x'.repeat(257), '\ud83c', undefined, 7]) {
    assert.throws(() => keysOf(locationId, 64), CannotAsk);
  }
  assert.ok(keysOf('\u{1f3e5}'.repeat(256), 64)); // characters, not code units
  for (const number of ['', '2025550143', '(202) 555-0143', '+1 202 555 0143', '+12025550143\n', '+0123456789', 12025550143]) {
    assert.throws(() => membersOf(number), CannotAsk);
  }
});
