/** Scrolls a row of links sideways, so that the current one is in its middle: on a phone the row is
 * wider than the window. */
export function showCurrent(row: HTMLElement): void {
  const link = row.querySelector("[aria-current]");
  if (!link) return;
  const [outer, inner] = [row.getBoundingClientRect(), link.getBoundingClientRect()];
  row.scrollLeft += inner.left + inner.width / 2 - (outer.left + outer.width / 2);
}
