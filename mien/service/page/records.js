// Records as files that people open elsewhere: the same columns as `mien analyze` writes.

import { saveFile } from "./dom.js";

/** What a spreadsheet would take for a formula, and what would be read back as guarded: as mien/core/csv_cells.py has it. */
const FORMULA = /^'*[=+\-@\t\r]/;

/** A field of a CSV file, quoted where it must be (RFC 4180), guarded where it would be a formula; nothing for null. */
function formatField(value) {
  if (value === null || value === undefined) return "";
  let text = typeof value === "boolean" ? (value ? "True" : "False") : String(value);
  if (typeof value === "string" && FORMULA.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows with the same keys → CSV; without rows there are no columns to name. */
export function toCsv(rows) {
  if (!rows.length) return "";
  const columns = Object.keys(rows[0]);
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))]
    .map((cells) => `${cells.map(formatField).join(",")}\n`)
    .join("");
}

export function saveCsv(rows, name) {
  saveFile(new Blob([toCsv(rows)], { type: "text/csv" }), `${name}.records.csv`);
}

export function saveJson(rows, name) {
  saveFile(new Blob([`${JSON.stringify(rows, null, 2)}\n`], { type: "application/json" }), `${name}.records.json`);
}
