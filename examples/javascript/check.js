// Answers questions, a line each: {"location_id": ..., "number": ...} comes in, the verdict goes out, in the same order.
// It keeps its connection, and answers each line within OPTOUT_REDIS_TIMEOUT.

import { createInterface } from 'node:readline';
import { CannotAsk, verdict } from './guard.js';
import { fromEnvironment } from './settings.js';

async function answerTo(line, connection, options) {
  try {
    const { location_id: locationId, number } = Object(JSON.parse(line));
    return await verdict(connection, locationId, number, options);
  } catch (error) {
    if (error instanceof SyntaxError) return { error: 'This line is no JSON.' }; // whose message would quote it
    if (error instanceof CannotAsk) return { error: error.message };
    throw error;
  }
}

try {
  const { connection, options } = fromEnvironment();
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answerTo(line, connection, options))}\n`);
  }
  connection.close();
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
