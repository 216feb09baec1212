// CSV files (RFC 4180) that spreadsheets open.

// As radserve/spreadsheet.py: positions before a formula, also where a program that ignores quotes begins a cell.
const FORMULA = /^(?=\s*[=+\-@＝＋－＠]|[\t\r\n])|(?<=[,;|\t\r\n])(?=\s*[=+\-@＝＋－＠])/g;

/** Return a text with a quote before each part that a spreadsheet would run as a formula. */
export const cell = (text) => text.replace(FORMULA, "'");

function field(value) {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = cell(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return rows of values as CSV. */
export const toCsv = (rows) => rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");
