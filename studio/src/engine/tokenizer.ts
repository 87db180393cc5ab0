/** CLIP's byte-pair encoding from the model's own vocab.json and merges.txt: the ids equal those of
 * src/fromnoise/prompt/tokenizer.py. */

export const BOS = "<|startoftext|>";
export const EOS = "<|endoftext|>";

// What the tokenizer's regular expressions call a space: Unicode's White_Space.
const SPACE = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SUFFIXES = "'s|'t|'re|'ve|'m|'ll|'d";
const SIGNS = `[^${SPACE}\\p{L}\\p{N}]+`;
// one word, one digit or one run of signs at a time (CLIP's simple_tokenizer.py)
const WORDS = new RegExp(
  `<\\|startoftext\\|>|<\\|endoftext\\|>|${SUFFIXES}|\\p{L}+|\\p{N}|${SIGNS}`, "gu",
);
// GPT-2's expression, which cuts the special words again where they are not special
const PARTS = new RegExp(`${SUFFIXES}|\\p{L}+|\\p{N}+|${SIGNS}`, "gu");
const SPACES = new RegExp(`[${SPACE}]+`, "gu");

/** GPT-2's sign for each byte: printable bytes stand for themselves, the others follow U+0100. */
const SIGN_OF_BYTE: string[] = [];
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (33 <= byte && byte < 127) || (161 <= byte && byte < 173) || byte >= 174;
  SIGN_OF_BYTE.push(String.fromCodePoint(printable ? byte : next++));
}
const BYTE_OF_SIGN = new Map(SIGN_OF_BYTE.map((sign, byte) => [sign, byte]));

export class Tokenizer {
  private readonly ranks = new Map<string, number>(); // "left right" → its place in the merges
  private readonly spellings: string[] = []; // id → what the files call it
  private readonly bos: number;
  private readonly eos: number;

  /** vocabulary: word → id. merges: the content of merges.txt. maxLength: of start, words, end and
   * padding together. pad: the word that fills the rest. */
  constructor(
    private readonly vocabulary: Record<string, number>,
    merges: string,
    readonly maxLength: number,
    private readonly pad: string = EOS,
  ) {
    for (const line of merges.split(/\r?\n/)) {
      if (line.trim() && !line.startsWith("#version")) this.ranks.set(line, this.ranks.size);
    }
    for (const [word, id] of Object.entries(vocabulary)) this.spellings[id] = word;
    this.bos = vocabulary[BOS];
    this.eos = vocabulary[EOS];
    if (this.bos === undefined || this.eos === undefined || vocabulary[pad] === undefined) {
      throw new Error(`The tokenizer's vocab.json lacks ${BOS}, ${EOS} or ${pad}. Build the site again.`);
    }
  }

  /** The ids of the words alone, as many as there are. */
  encodeWords(text: string): number[] {
    const special = [...new Set([BOS, EOS, this.pad])].map((word) => word.replace(/[|\\{}()[\]^$+*?.]/g, "\\$&"));
    return text.split(new RegExp(`(${special.join("|")})`)).flatMap((part, i) =>
      i % 2 ? [this.vocabulary[part]] : this.encodeOrdinary(part),
    );
  }

  /** Text → `maxLength` ids: start, words, end, padding. What does not fit is cut off. words[i] is the
   * text of token i; "" for padding. `fits`: whether all words found a place. */
  encode(text: string): { ids: number[]; words: string[]; fits: boolean } {
    const all = this.encodeWords(text);
    const ids = [this.bos, ...all.slice(0, this.maxLength - 2), this.eos];
    const words = ids.map((id) => this.spell(id));
    while (ids.length < this.maxLength) {
      ids.push(this.vocabulary[this.pad]);
      words.push("");
    }
    return { ids, words, fits: all.length <= this.maxLength - 2 };
  }

  /** The text of one token. */
  spell(id: number): string {
    const spelling = this.spellings[id];
    if (id === this.bos || id === this.eos) return spelling;
    const bytes = [...spelling.replace(/<\/w>$/, "")].map((sign) => BYTE_OF_SIGN.get(sign) ?? 63);
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }

  private encodeOrdinary(text: string): number[] {
    // letter by letter: the last sigma of a Greek word stays like the others
    const plain = [...text.normalize("NFC").replace(SPACES, " ")].map((c) => c.toLowerCase()).join("");
    const parts = (plain.match(WORDS) ?? []).flatMap((word) => word.match(PARTS) ?? []);
    return parts.flatMap((part) => this.merge(part));
  }

  /** One word → ids: its bytes, joined pair by pair, the pair that comes first in the merges first. */
  private merge(word: string): number[] {
    const pieces = Array.from(new TextEncoder().encode(word), (byte) => SIGN_OF_BYTE[byte]);
    pieces[pieces.length - 1] += "</w>";
    for (;;) {
      let best = Infinity;
      let place = -1;
      for (let i = 0; i + 1 < pieces.length; i++) {
        const rank = this.ranks.get(`${pieces[i]} ${pieces[i + 1]}`) ?? Infinity;
        if (rank < best) [best, place] = [rank, i];
      }
      if (place < 0) return pieces.map((piece) => this.vocabulary[piece] ?? this.eos);
      pieces.splice(place, 2, pieces[place] + pieces[place + 1]);
    }
  }
}
