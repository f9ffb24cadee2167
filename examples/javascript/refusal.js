/** There is no question to ask: the message says why, without the number. */
export class CannotAsk extends Error {}
