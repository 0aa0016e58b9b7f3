// Another report, and what of it belongs to what of this one: as report/compared.py pairs them.
import { AGREES, INCONCLUSIVE, WORDS } from "./verdicts.js";

const SCHEMA = "gradwitness-comparison", VERSION = 1;
const LARGEST = 2 ** 29; // characters that a browser can hold as one text
const BLOCK = /<script type="application\/octet-stream" id="data-record">([\w+/=]*)<\/script>/;
// As in compared.py: a norm that moved by less, or digits, are another order of sums.
const MOVED = 0.01, LOST = 1;
// From the least to the most to be looked at: of several in a box of the graph, the last one counts.
export const CHANGES = ["same", "moved", "new", "gone", "better", "worse"];
export const CHANGE_MARKS = ["=", "\u25c6", "+", "\u2212", "\u25b2", "\u25bc"];
export const SAME = 0, ONLY_AFTER = 2, ONLY_BEFORE = 3, BETTER = 4, WORSE = 5;
const SHOWN = ["error", "bound", "ratio", "relative_error", "ulps", "detects_relative", "norm", "size", "refuted", "digits"];

// Reads a report that a person chose; what is wrong with it is an error whose text can be shown.
export async function reportOf(file, unpacked) {
  const refused = (why) => new Error(`${file.name} is not a saved report: ${why}. Open a report.html or report.json, as gradwitness check TARGET --save writes them.`);
  if (file.size > LARGEST) throw refused("it is larger than 512 MiB");
  let text = await file.text();
  if (text.trimStart().startsWith("<")) {
    const block = text.match(BLOCK);
    if (!block) throw refused("it is a page without a report, or a report of more than 20,000 steps, which is kept in its .json alone");
    text = new TextDecoder().decode(await unpacked(block[1]).catch(() => { throw refused("its data are damaged"); }));
  }
  try {
    return { ...checked(JSON.parse(text)), name: file.name };
  } catch (error) {
    throw refused(error instanceof SyntaxError ? "it is not JSON, nor a page" : error instanceof TypeError ? "its fields are not those of a report" : error.message);
  }
}

// A record with verdicts as numbers and figures as numbers; whatever else it holds is left out.
export function checked(record) {
  if (record?.schema !== SCHEMA) throw new Error(typeof record?.schema === "string" ? `its schema is ${record.schema}` : "it has no schema");
  if (record.version !== VERSION) throw new Error(`its version is ${record.version}, and this page reads version ${VERSION}`);
  const counted = { step: new Map(), gradient: new Map(), note: new Map() };
  const entries = (kind, list, made) => list.map((fields) => {
    const [same, entry] = made(fields);
    const seen = counted[kind].get(same) ?? 0;
    counted[kind].set(same, seen + 1);
    return { key: `${same}\n${seen}`, ...entry };
  });
  return {
    verdict: verdictOf(record.verdict),
    first: record.first_wrong === null ? "" : String(record.first_wrong ?? ""),
    gradients: entries("gradient", record.gradients, (row) => {
      const title = words(row.name) + (row.pass ? ` (pass ${row.pass + 1})` : "");
      return [title, { ...figuresOf(row), title, kind: "gradient", module: "", line: "" }];
    }),
    steps: entries("step", record.steps, (row) => {
      const name = `${words(row.step)}: ${words(row.title)}`;
      const entry = { ...figuresOf(row), title: row.title, kind: row.step, module: words(row.module), line: words(row.wrong_at || row.line) };
      return [`${row.module}\n${name.replace(/(#|call )[0-9]+/g, "")}`, entry];
    }),
    notes: entries("note", record.notes, ({ kind, line }) => [words(kind), { title: kind, line: words(line) }]),
  };
}

function words(text) {
  if (typeof text !== "string") throw new TypeError();
  return text;
}

function verdictOf(word) {
  const verdict = WORDS.indexOf(word);
  if (verdict < AGREES || verdict > INCONCLUSIVE) throw new TypeError();
  return verdict;
}

// JSON has numbers that are not finite as text.
function numberOf(value) {
  return typeof value === "number" ? value : value === "inf" ? Infinity : value === "-inf" ? -Infinity : NaN;
}

function figuresOf(row) {
  const entry = { verdict: verdictOf(row.verdict), reason: String(row.reason ?? ""), at: row.index ? `[${row.index}]` : "" };
  for (const name of SHOWN) entry[name] = numberOf(row[name]);
  for (const name of ["recorded", "expected"]) {
    entry[name] = Array.isArray(row[name]) ? row[name].map((part) => written(numberOf(part))).join(" + i ") : written(numberOf(row[name]));
  }
  return entry;
}

const written = (number) => (Number.isNaN(number) ? "" : String(Number(number.toPrecision(9))));

// Two reports: their pairs, each { number, before, after, change }, and which of them is this page's.
export function sideBySide(before, after, isAfter) {
  const found = { before, after, isAfter };
  for (const kind of ["gradients", "steps", "notes"]) found[kind] = paired(before[kind], after[kind]);
  const own = isAfter ? "after" : "before";
  found.ofStep = new Map();
  for (const pair of found.steps) if (pair[own]) found.ofStep.set(pair[own].number, pair);
  return found;
}

function paired(first, second) {
  const pairs = new Map();
  first.forEach((entry, number) => pairs.set(entry.key, { before: { ...entry, number } }));
  second.forEach((entry, number) => pairs.set(entry.key, { ...pairs.get(entry.key), after: { ...entry, number } }));
  return Array.from(pairs.values(), (pair, number) => ({ ...pair, number, change: changeOf(pair) }));
}

const severity = (verdict) => [0, 2, 1][verdict] ?? 0;

function changeOf({ before, after }) {
  if (after && severity(after.verdict) > severity(before?.verdict)) return WORSE;
  if (!before) return ONLY_AFTER;
  if (!after) return ONLY_BEFORE;
  if (before.verdict !== after.verdict) return BETTER;
  return Number(hasMoved(before, after));
}

function hasMoved(before, after) {
  if (Math.abs(after.digits - before.digits) >= LOST) return true;
  if (after.norm === before.norm || after.norm === undefined || (Number.isNaN(after.norm) && Number.isNaN(before.norm))) return false;
  return !(Math.abs(after.norm / (before.norm || NaN) - 1) < MOVED);
}
