// Contour of a mask along the sides of its pixels. Pure.

/** Return the path (SVG) between the pixels of a mask that are not 0 and all others; outside of the image none is marked. */
export function contour(marked, width, height) {
  const at = (column, row) => column >= 0 && column < width && row >= 0 && row < height && marked[row * width + column] !== 0;
  let path = "";
  for (let row = 0; row <= height; row += 1) {
    const isSide = (column) => at(column, row - 1) !== at(column, row);
    for (const [start, end] of runs(width, isSide)) path += `M${start} ${row}H${end}`;
  }
  for (let column = 0; column <= width; column += 1) {
    const isSide = (row) => at(column - 1, row) !== at(column, row);
    for (const [start, end] of runs(height, isSide)) path += `M${column} ${start}V${end}`;
  }
  return path;
}

/** Return start and end of the runs of numbers below `count` that `isIn`. */
function runs(count, isIn) {
  const found = [];
  let start = -1;
  for (let index = 0; index <= count; index += 1) {
    const is = index < count && isIn(index);
    if (is && start < 0) start = index;
    if (!is && start >= 0) {
      found.push([start, index]);
      start = -1;
    }
  }
  return found;
}
