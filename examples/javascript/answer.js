// What an answer means: the table of docs/CONTRACT.md, line by line, and nothing else. schemas/vectors/verdicts.json
// holds it.

const LONGEST_WINDOW = 4 * 3_600_000;

/** This is no answer to the question: close the connection that it came from. */
export class Garbled extends Error {}

/**
 * Returns a verdict for each of the `count` numbers that were asked about under `word`: kind, which is ALLOWED, SUPPRESSED
 * or UNKNOWN; reason, why it is UNKNOWN; at and fresh, in milliseconds by Redis's clock. maxStaleness is in seconds.
 * Throws Garbled.
 */
export function read(answer, word, count, maxStaleness) {
  if (!isWhole(answer, word, count)) throw new Garbled('this is no answer to the question');
  const [, run, replication, now, markedRun, markedReplication, marked, begin, end, members] = answer;
  const fresh = numberIn(marked);
  const verdict = (kind, reason = null) => ({ kind, reason, at: now, fresh });
  const ofEach = (of) => members.map(of);

  if (markedRun === null || markedReplication === null || fresh === null) {
    return ofEach(() => verdict('UNKNOWN', 'unvouched'));
  }
  if (markedRun !== run || markedReplication !== replication) {
    return ofEach(() => ({ ...verdict('UNKNOWN', 'other server'), fresh: null }));
  }
  const limit = maxStaleness * 1000;
  const window = { begin: numberIn(begin), end: numberIn(end) };
  const isKnown = fresh <= now && (now - fresh <= limit || isExcused(now, fresh, limit, window));
  const other = isKnown ? verdict('ALLOWED') : verdict('UNKNOWN', 'stale');
  return ofEach((member) => (member === 1 ? verdict('SUPPRESSED') : other));
}

/** Whether a maintenance window is open, and what it stands on was new enough when it began. */
function isExcused(now, fresh, limit, { begin, end }) {
  if (begin === null || end === null) return false;
  return begin <= now && now < end && end <= now + LONGEST_WINDOW && begin - fresh <= limit;
}

function isWhole(answer, word, count) {
  if (!Array.isArray(answer) || answer.length !== 11) return false;
  const [said, run, replication, now, ...rest] = answer;
  const [members, reasons] = rest.splice(-2);
  return (
    said === word &&
    [run, replication].every((id) => typeof id === 'string' && id !== '') &&
    Number.isSafeInteger(now) &&
    rest.every((field) => field === null || typeof field === 'string') &&
    Array.isArray(members) &&
    members.length === count &&
    members.every((member) => member === 0 || member === 1) &&
    Array.isArray(reasons) &&
    reasons.length === 0
  );
}

// Number('') is 0 and parseInt('12x') is 12: neither is a number to us.
const numberIn = (field) => (field !== null && /^-?[0-9]+$/.test(field) ? Number(field) : null);
