/**
 * When to ask what again: the twin of src/fromnoise/learn/quiz/review.py. A card climbs one of
 * Leitner's boxes with each right answer and falls back to the first with a wrong one; the days
 * between reviews double from box to box. Clock and chance are arguments. Progress is the very same
 * JSON as `fromnoise learn quiz` writes.
 */

export interface Option {
  text: string;
  why: string; // what is said to somebody who chose it
  right: boolean;
  tag: string; // the misconception behind a wrong one
}

export interface Question {
  id: string;
  chapter: string; // the chapter's id
  section: string; // the anchor in it that explains the answer
  level: number; // 1 recalls, 2 explains, 3 applies
  wordings: string[];
  options: Option[];
}

/** What is known of one question's answers. */
export interface Card {
  box: number; // 0: wrong the last time
  due: number; // seconds since 1970, when it is asked again
  wording: number; // the one that was shown last
  seen: number;
  right: number;
}

/** Cards by the question's id. */
export type Cards = ReadonlyMap<string, Card>;

/** A question as it is shown: one of its wordings, its options in a new order. */
export interface Asked {
  question: Question;
  wording: number;
  options: Option[];
}

/** Gives numbers in [0, 1), as Math.random does. */
export type Chance = () => number;

const FORMAT = "fromnoise-quiz";
const VERSION = 1;
const BOXES = 6;
export const DAY = 86_400; // seconds
const RETRY = 600; // seconds after which a wrong answer can be mended
const LARGEST_PROGRESS = 1_000_000; // characters
const LATEST = 2 ** 40; // seconds since 1970
const REMEDY = "give a file that `fromnoise learn quiz` or the page's export wrote";

/** What cannot be imported: the message names the field, the remedy says what to do. */
export class BadProgress extends Error {
  constructor(message: string, readonly remedy = REMEDY) {
    super(message);
  }
}

/** A whole number from 0 to n − 1, computed as Python's random.Random does from random(). */
function below(n: number, chance: Chance): number {
  return Math.floor(chance() * 2 ** 53) % n;
}

function shuffle<T>(items: readonly T[], chance: Chance): T[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = below(i + 1, chance);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function compare(a: number[], b: number[]): number {
  const i = a.findIndex((value, k) => value !== b[k]);
  return i < 0 ? 0 : a[i] - b[i];
}

/**
 * The next question to ask, or null where nothing is due. Due cards come first, those of low boxes
 * before others; then new ones, from easy to hard. Every third turn is a new one's. `last`, the id
 * of the question before, is not asked twice in a row unless it is the only one.
 */
export function pick(
  cards: Cards, questions: readonly Question[], now: number, chance: Chance, last = "",
): Asked | null {
  const due: { key: number[]; question: Question }[] = [];
  const fresh: typeof due = [];
  for (const question of questions) {
    const card = cards.get(question.id);
    if (!card) fresh.push({ key: [question.level, chance()], question });
    else if (card.due <= now) due.push({ key: [card.box, card.due, chance()], question });
  }
  const queues = [due, fresh].map((rows) => rows.sort((a, b) => compare(a.key, b.key)));
  const seen = [...cards.values()].reduce((sum, card) => sum + card.seen, 0);
  if (seen % 3 === 2) queues.reverse();
  let order = queues.flat().map((row) => row.question);
  if (order.length > 1 && order[0].id === last) order = order.slice(1);
  return order.length ? show(cards, order[0], chance) : null;
}

/** A question in a wording that was not shown last. */
export function show(cards: Cards, question: Question, chance: Chance): Asked {
  const shown = cards.get(question.id)?.wording ?? -1;
  const wordings = question.wordings.map((_, i) => i).filter((i) => i !== shown);
  const options = shuffle(question.options, chance);
  return { question, wording: wordings[below(wordings.length, chance)], options };
}

/** The cards after an answer. */
export function answer(cards: Cards, asked: Asked, option: Option, now: number): Cards {
  const before = cards.get(asked.question.id) ?? { box: 0, due: 0, wording: -1, seen: 0, right: 0 };
  const box = option.right ? Math.min(before.box + 1, BOXES - 1) : 0;
  const due = now + (box ? DAY * 2 ** (box - 1) : RETRY);
  const right = before.right + Number(option.right);
  const card = { box, due, wording: asked.wording, seen: before.seen + 1, right };
  return new Map(cards).set(asked.question.id, card);
}

/** As JSON, to be kept or taken to another place. */
export function writeProgress(cards: Cards): string {
  const sorted = [...cards].sort(([a], [b]) => (a < b ? -1 : 1));
  const data = { format: FORMAT, version: VERSION, cards: Object.fromEntries(sorted) };
  return JSON.stringify(data, null, 1) + "\n";
}

/**
 * What `writeProgress` or `fromnoise learn quiz` wrote. Throws BadProgress, which names the field,
 * for anything else. Cards of questions that the course does not have (any more) are left out.
 */
export function readProgress(text: string, questions: readonly Question[]): Cards {
  if (text.length > LARGEST_PROGRESS) throw new BadProgress("the quiz progress is larger than 1 MB");
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw new BadProgress("the quiz progress is no JSON");
  }
  if (!isRecord(data) || data.format !== FORMAT) {
    throw new BadProgress(`the quiz progress has no format '${FORMAT}'`);
  }
  if (data.version !== VERSION) {
    const version = String(JSON.stringify(data.version)).slice(0, 60);
    throw new BadProgress(`quiz progress of version ${version}; version ${VERSION} is known`);
  }
  if (!isRecord(data.cards)) throw new BadProgress("the quiz progress has no cards");
  const known = new Map(questions.map((question) => [question.id, question]));
  const cards = new Map<string, Card>();
  for (const [id, row] of Object.entries(data.cards)) {
    const question = known.get(id);
    if (question) cards.set(id, readCard(question, row));
  }
  return cards;
}

function readCard(question: Question, row: unknown): Card {
  const most: Card = {
    box: BOXES - 1, due: LATEST, seen: 10 ** 6, right: 10 ** 6,
    wording: question.wordings.length - 1,
  };
  const fields = Object.keys(most) as (keyof Card)[];
  const name = `quiz card '${question.id}'`;
  if (!isRecord(row) || Object.keys(row).length !== fields.length || !fields.every((f) => f in row)) {
    throw new BadProgress(`${name} has not the fields ${fields.join(", ")}`);
  }
  for (const [field, value] of Object.entries(row)) {
    const low = field === "wording" ? -1 : 0;
    const high = most[field as keyof Card];
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) {
      const shown = typeof value === "string" ? value : String(JSON.stringify(value));
      throw new BadProgress(`${name}: ${field} ${shown.slice(0, 60)} cannot be`);
    }
  }
  const card = row as unknown as Card;
  if (card.right > card.seen) throw new BadProgress(`${name}: more right answers than answers`);
  const { box, due, wording, seen, right } = card;
  return { box, due, wording, seen, right };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
