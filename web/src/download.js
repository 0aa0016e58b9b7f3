// Files made from what the page holds.
import { bytesOf } from "./data.js";

export function offer(name, type, parts) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// A spreadsheet would run a text that begins like a formula.
const harmless = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
const cell = (value) =>
  typeof value === "number" ? String(value) : `"${harmless(value).replaceAll('"', '""')}"`;

export function offerCsv(name, columns, lines) {
  const text = [columns.map((c) => cell(c.title)).join(",")];
  for (const line of lines) text.push(columns.map((c) => cell(c.raw(line))).join(","));
  offer(name, "text/csv", [text.join("\r\n") + "\r\n"]);
}

export async function offerRecord() {
  offer("report.json", "application/json", [await bytesOf("record")]);
}
