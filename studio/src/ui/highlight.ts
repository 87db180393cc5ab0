/** Colours for Python and shell code: text → pieces, each of one kind. Used by the build for the
 * pages' code blocks, and by CodeView in the page. */

export interface Piece {
  kind: "keyword" | "string" | "number" | "comment" | "name" | "plain";
  text: string;
}

const KEYWORDS = new Set(
  `False None True and as assert async await break class continue def del elif else except finally
   for from global if import in is lambda nonlocal not or pass raise return try while with yield
   match case`.split(/\s+/),
);
const PYTHON =
  /(?<comment>#[^\n]*)|(?<string>[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|(?<number>(?<![\w.])(?:0[xXbBoO][\da-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?))|(?<word>[\p{L}_][\p{L}\p{N}_]*)/gu;
const SHELL = /(?<comment>(?<=^|\s)#[^\n]*)|(?<string>"[^"\n]*"?|'[^'\n]*'?)|(?<name>(?<=\s)--?[a-z][\w-]*)/gmu;

export function highlight(code: string, language: "python" | "sh" | "text"): Piece[] {
  if (language === "text") return [{ kind: "plain", text: code }];
  const pieces: Piece[] = [];
  const add = (kind: Piece["kind"], text: string) => {
    const last = pieces.at(-1);
    if (last?.kind === kind) last.text += text;
    else if (text) pieces.push({ kind, text });
  };
  let end = 0, before = "";
  for (const match of code.matchAll(language === "python" ? PYTHON : SHELL)) {
    add("plain", code.slice(end, match.index));
    const { comment, string, number, name, word } = match.groups!;
    if (comment !== undefined) add("comment", comment);
    else if (string !== undefined) add("string", string);
    else if (number !== undefined) add("number", number);
    else if (name !== undefined) add("name", name);
    else add(KEYWORDS.has(word) ? "keyword" : /^(def|class)$/.test(before) ? "name" : "plain", word);
    before = word ?? "";
    end = match.index + match[0].length;
  }
  add("plain", code.slice(end));
  return pieces;
}

/** The pieces of each line. */
export function highlightLines(code: string, language: "python" | "sh" | "text"): Piece[][] {
  const lines: Piece[][] = [[]];
  for (const piece of highlight(code, language)) {
    piece.text.split("\n").forEach((text, i) => {
      if (i) lines.push([]);
      if (text) lines.at(-1)!.push({ kind: piece.kind, text });
    });
  }
  return lines;
}
