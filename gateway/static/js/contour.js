// Contour of a mask along the sides of its pixels. Pure.

/**
 * Return the path (SVG) between the pixels of a mask that are not 0 and all others; outside of the image none is marked.
 *
 * Null if it has more than `limit` lines, as that of noise.
 */
export function contour(marked, width, height, limit = Infinity) {
  const lines = [];
  const isDone = trace(marked, { lines: height, across: width, length: width, along: 1 }, (row, start, end) => lines.push(`M${start} ${row}H${end}`) <= limit)
    && trace(marked, { lines: width, across: 1, length: height, along: width }, (column, start, end) => lines.push(`M${column} ${start}V${end}`) <= limit);
  return isDone ? lines.join("") : null;
}

/** Call `draw` for each run of sides between two lines of pixels until it returns false; `across` and `along` are steps in the mask. */
function trace(marked, { lines, across, length, along }, draw) {
  for (let line = 0; line <= lines; line += 1) {
    let start = -1;
    for (let at = 0; at <= length; at += 1) {
      const index = line * across + at * along;
      const isSide = at < length && (line > 0 && marked[index - across] !== 0) !== (line < lines && marked[index] !== 0);
      if (isSide && start < 0) start = at;
      if (isSide || start < 0) continue;
      if (!draw(line, start, at)) return false;
      start = -1;
    }
  }
  return true;
}
