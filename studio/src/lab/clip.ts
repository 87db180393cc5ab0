/** The table of CLIP: cosines of pictures with captions, and the choice that a temperature makes. */

/** Cosines of unit vectors: a row for each of `rows`, a column for each of `columns`. */
export function listCosines(rows: Float32Array[], columns: Float32Array[]): number[][] {
  return rows.map((a) => columns.map((b) => a.reduce((sum, value, i) => sum + value * b[i], 0)));
}

/** softmax(values / temperature): positive shares that add up to 1. */
export function softmax(values: number[], temperature: number): number[] {
  const most = Math.max(...values);
  const weights = values.map((value) => Math.exp((value - most) / temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** The probabilities of every row's choice among its columns, or of every column's among its rows. */
export function listProbabilities(
  cosines: number[][], temperature: number, along: "rows" | "columns",
): number[][] {
  if (along === "rows") return cosines.map((row) => softmax(row, temperature));
  return transpose(transpose(cosines).map((column) => softmax(column, temperature)));
}

export function transpose(table: number[][]): number[][] {
  return table[0].map((_, k) => table.map((row) => row[k]));
}
