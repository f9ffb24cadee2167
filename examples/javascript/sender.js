// An outbound sender: messages come in on stdin, a line of JSON each, and go out on stdout, which stands for the gateway.
// What became of each is told on stderr, by the number of its line, without patient or text.
//
//   {"location_id": "loc-1", "number": "+12025550143", "text": "Your visit is tomorrow at 3. Reply STOP to opt out."}

import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { CannotAsk, verdict } from './guard.js';
import { fromEnvironment } from './settings.js';

const AT_ONCE = 100; // messages that are asked about or held: reading waits while there are so many
const PAUSE_MS = 500; // until a held message is asked about again
const EXITS = { sent: 0, suppressed: 0, refused: 1, failed: 1, 'held over': 4 };
const STOPPED = 4;
const WRONGLY_SET_UP = 2;

/** Hands a message to the gateway. Throws where that fails. */
function send(message) {
  return new Promise((resolve, reject) => {
    process.stdout.write(`${JSON.stringify(message)}\n`, (error) => (error ? reject(error) : resolve()));
  });
}

/** Returns what the line holds. Throws CannotAsk where it is no message. */
function messageIn(line) {
  let message;
  try {
    message = Object(JSON.parse(line));
  } catch {
    throw new CannotAsk('This line is no JSON.'); // the parser's own words would quote it
  }
  if (typeof message.text !== 'string' || !message.text) throw new CannotAsk('The message has no text.');
  return message;
}

/** Returns what became of a line: each ends as sent, suppressed, held over, refused or failed, and none in silence. */
async function outcomeOf(line, { connection, options, holdMs }, stopping) {
  const until = performance.now() + holdMs;
  try {
    const message = messageIn(line);
    for (;;) {
      const { kind, reason } = await verdict(connection, message.location_id, message.number, options);
      if (kind === 'SUPPRESSED') return { outcome: 'suppressed' };
      if (kind === 'ALLOWED') break; // and nothing stands between this and send(): it is the last hop
      // UNKNOWN is neither yes nor no: hold it, and ask again.
      if (stopping.aborted || performance.now() + PAUSE_MS > until) return { outcome: 'held over', reason };
      await pause(PAUSE_MS, undefined, { signal: stopping }).catch(() => {});
    }
    await send(message);
    return { outcome: 'sent' };
  } catch (error) {
    if (error instanceof CannotAsk) return { outcome: 'refused', reason: error.message };
    return { outcome: 'failed', reason: error.code ?? error.name };
  }
}

/** Does all that comes in, until its end or a signal, and returns the exit code. */
async function main() {
  const settings = fromEnvironment();
  const stop = new AbortController();
  const lines = createInterface({ input: process.stdin });
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
      stop.abort();
      lines.close(); // what was not read is the next run's
    });
  }
  process.stdout.on('error', () => {}); // send() hears of it

  const underway = new Set();
  let [read, exit] = [0, 0];
  const handle = async (line, number) => {
    const became = await outcomeOf(line, settings, stop.signal);
    exit = Math.max(exit, EXITS[became.outcome]);
    console.error(JSON.stringify({ line: number, ...became }));
  };
  for await (const line of lines) {
    const task = handle(line, (read += 1)).finally(() => underway.delete(task));
    underway.add(task);
    if (underway.size >= AT_ONCE) await Promise.race(underway);
  }
  await Promise.all(underway);
  settings.connection.close();
  if (!stop.signal.aborted) return exit;
  console.error(JSON.stringify({ stopped: 'on a signal', read }));
  return Math.max(exit, STOPPED);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = WRONGLY_SET_UP;
}
