// Two reports side by side: tables of pairs, both sides' numbers, and a way to open the other one.
import { useEffect, useMemo, useState } from "preact/hooks";
import { bytesOf, has, unpacked } from "./data.js";
import { offerCsv } from "./download.js";
import { html } from "./html.js";
import { digitsRight, short } from "./numbers.js";
import { BETTER, CHANGE_MARKS, CHANGES, checked, ONLY_AFTER, ONLY_BEFORE, reportOf, SAME, sideBySide, WORSE } from "./pairs.js";
import { Choice, text, turned, within } from "./steps.js";
import { ordered, Table } from "./table.js";
import { useTheme } from "./theme.js";
import { Badge, Verdict, WORDS } from "./verdicts.js";

const MEANINGS = [
  "the same verdict, and about the same numbers", "the same verdict, but a norm that differs by 1 % or more, or digits by one or more",
  "only in the later report", "only in the earlier report", "a better verdict", "a worse verdict",
];
const ORDER = [WORSE, BETTER, 1, ONLY_AFTER, ONLY_BEFORE, SAME];
const SIDES = ["before", "after"];
const FIGURES = [["x bound", "ratio"], ["error", "error"], ["norm", "norm"]];
const DIGITS = ["digits", "digits"];

export const Change = ({ change }) =>
  html`<span class="change ${CHANGES[change]}"><span aria-hidden="true">${CHANGE_MARKS[change]}</span> ${CHANGES[change]}</span>`;

export const ChangeLegend = () =>
  html`<div class="legend">${ORDER.map((change) => change !== SAME && html`<span key=${change} title=${MEANINGS[change]}><${Change} change=${change} /></span>`)}<span>grey, without a mark: the same, or nothing judged</span></div>`;

// What became of each node of this page's graph: of its steps, the most to be looked at.
export function changesOf({ steps, isAfter }, nodeOf) {
  const changes = new Map();
  for (const pair of steps) {
    const own = pair[isAfter ? "after" : "before"];
    const node = own ? nodeOf[own.number] : undefined;
    if (node >= 0) changes.set(node, Math.max(changes.get(node) ?? SAME, pair.change));
  }
  return changes;
}

const reported = async (block, name) => ({ ...checked(JSON.parse(new TextDecoder().decode(await bytesOf(block)))), name });

// The two reports that a page was written about, or null.
export async function written() {
  const { own, before, after } = document.getElementById("app").dataset;
  if (!own) return null;
  const isAfter = own === "after";
  const [first, second] = await Promise.all([reported(isAfter ? "other" : "record", before), reported(isAfter ? "record" : "other", after)]);
  return { ...sideBySide(first, second, isAfter), isFixed: true };
}

// The pair that an address names: #p12 is one of steps, #g3 one of gradients.
export function addressedPair(comparison) {
  const [, kind, digits] = location.hash.match(/^#([pg])(\d+)$/) ?? [];
  return comparison && kind ? (comparison[kind === "p" ? "steps" : "gradients"][Number(digits)] ?? null) : null;
}

// Nothing that is dropped leaves the page; it is read here.
export function Opener({ comparison, setComparison }) {
  const [trouble, setTrouble] = useState("");
  const open = async (file) => {
    if (!file || !has("record")) return;
    setTrouble("");
    try {
      const [other, own] = await Promise.all([reportOf(file, unpacked), reported("record", "this page")]);
      setComparison(sideBySide(other, own, true));
    } catch (error) {
      setTrouble(error.message);
    }
  };
  useEffect(() => {
    const over = (event) => event.preventDefault();
    const drop = (event) => {
      event.preventDefault();
      open(event.dataTransfer.files[0]);
    };
    addEventListener("dragover", over);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("drop", drop);
    };
  }, []);
  useEffect(() => {
    if (comparison) document.getElementById("compare").scrollIntoView({ block: "start" });
  }, [!comparison]);
  const swap = () => setComparison(sideBySide(comparison.after, comparison.before, !comparison.isAfter));
  const choose = (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // so that the same file can be chosen again
    open(file);
  };

  return html`<section class=${`card ${comparison ? "" : "closed"}`} id="compare">
    <h2>${comparison ? "Side by side" : "Compare with another report"}</h2>
    ${comparison && html`<${Summary} comparison=${comparison} />`}
    ${has("record")
      ? html`<div class="bar open">
          <label class="button"><input type="file" accept=".json,.html" onChange=${choose} />${comparison ? "Another report" : "Choose a report"}</label>
          ${comparison && html`<button onClick=${swap}>Swap before and after</button><button onClick=${() => setComparison(null)}>Close</button>`}
          <span class="quiet">or drop its .html or .json anywhere on this page. It is read here, and sent nowhere.</span>
        </div>`
      : html`<p class="quiet">So many steps are not kept as JSON in a page: save both reports as .json, and run gradwitness compare.</p>`}
    ${trouble && html`<p class="trouble" role="alert"><bdi>${trouble}</bdi></p>`}
  </section>`;
}

function Summary({ comparison }) {
  const sides = SIDES.map((side) => comparison[side]);
  const count = (list, verdict) => list.filter((entry) => entry.verdict === verdict).length;
  const words = ["agree", "disagree", "inconclusive"];
  const rows = ["steps", "gradients"].flatMap((kind) => words.map((word, verdict) => [`${kind} ${word}`, verdict, sides.map((side) => count(side[kind], verdict))]));
  const notes = comparison.notes.filter(({ change }) => change !== SAME);
  return html`<div class="scroll"><table class="figures sides">
      <thead><tr><td></td>${sides.map((side, i) => html`<th scope="col" key=${i}>${SIDES[i]}<br /><bdi>${side.name}</bdi></th>`)}</tr></thead>
      <tbody>
        <tr><th scope="row">verdict</th>${sides.map((side, i) => html`<td key=${i}><${Verdict} verdict=${side.verdict} /></td>`)}</tr>
        ${rows.map(([label, verdict, counts]) => html`<tr key=${label}><th scope="row">${label}</th>${counts.map((n, i) => html`<td key=${i} class=${n ? ["agrees", "disagrees", "inconclusive"][verdict] : ""}>${n ? n.toLocaleString("en") : "-"}</td>`)}</tr>`)}
        ${sides.some((side) => side.first) && html`<tr><th scope="row">first wrong step</th>${sides.map((side, i) => html`<td key=${i}><bdi>${side.first || "-"}</bdi></td>`)}</tr>`}
      </tbody>
    </table></div>
    ${notes.length > 0 && html`<h3>Notes</h3><ul class="plain">${notes.map((pair) => html`<li key=${pair.number}><${Change} change=${pair.change} /> <bdi>${either(pair).title}</bdi> <span class="quiet"><bdi>${either(pair).line}</bdi></span></li>`)}</ul>`}`;
}

const either = (pair) => pair.after ?? pair.before;

// Both sides in a line, once if they are equal.
function arrow(pair, show) {
  const [before, after] = SIDES.map((side) => (pair[side] ? show(pair[side]) : "absent"));
  return before === after ? after : `${before} \u2192 ${after}`;
}

// The verdict as it is, after the form of what it was.
function Standing({ pair }) {
  const [before, after] = SIDES.map((side) => pair[side]?.verdict);
  const shown = (verdict) => (verdict === undefined ? html`<span class="quiet">absent</span>` : html`<${Verdict} verdict=${verdict} />`);
  if (before === after) return shown(after);
  return html`${before === undefined ? shown(before) : html`<span title=${WORDS[before]}><${Badge} verdict=${before} /></span>`} \u2192 ${shown(after)}`;
}

function columnsOf(pairs, kind) {
  const told = (title, name, least) => text(title, (i) => either(pairs[i])[name], pairs.length, least);
  const figure = ([title, name]) => ({
    title, width: "10rem", kind: "figure",
    show: (i) => arrow(pairs[i], (entry) => (name === "digits" ? digitsRight : short)(entry[name])),
    // Digits by how many were lost, others as they are now.
    raw: (i) => (name === "digits" ? gained(pairs[i]) : either(pairs[i])[name]),
  });
  const isSteps = kind === "steps";
  return [
    { title: "change", width: "5.6rem", show: (i) => html`<${Change} change=${pairs[i].change} />`, raw: (i) => -pairs[i].change, tip: (i) => MEANINGS[pairs[i].change] },
    ...(isSteps ? [told("step", "kind", "6.6rem")] : []),
    told(isSteps ? "title" : "gradient of", "title", "11rem"),
    ...(isSteps ? [told("module", "module", "5rem")] : []),
    { title: "verdict", width: "11.5rem", show: (i) => html`<${Standing} pair=${pairs[i]} />`, raw: (i) => arrow(pairs[i], (entry) => WORDS[entry.verdict]) },
    ...[...FIGURES, ...(isSteps ? [] : [DIGITS])].map(figure),
  ];
}

function gained({ before, after }) {
  if (!before || !after) return NaN;
  return before.digits === after.digits ? 0 : after.digits - before.digits;
}

// In a file each side has a column of its own.
function fileColumns(pairs) {
  const of = (title, raw) => ({ title, raw });
  const text = (name) => of(name, (i) => either(pairs[i])[name]);
  const sides = (title, show) => SIDES.map((side) => of(`${title} ${side}`, (i) => (pairs[i][side] ? show(pairs[i][side]) : "")));
  return [
    of("change", (i) => CHANGES[pairs[i].change]), text("kind"), text("title"), text("module"), text("line"),
    ...sides("verdict", (entry) => WORDS[entry.verdict]),
    ...[...FIGURES, DIGITS].flatMap(([title, name]) => sides(title, (entry) => entry[name])),
  ];
}

const CHANGED = "changed", ALL = "all";
const anywhere = ({ title, line, reason }) => `${title} ${line} ${reason}`.toLowerCase();

export function Pairs({ id, kind, heading, pairs, filter, setFilter, selected, onPick }) {
  const columns = useMemo(() => columnsOf(pairs, kind), [pairs]);
  const [order, setOrder] = useState({ column: null, down: false });
  const [wanted, setWanted] = useState(() => (pairs.some(({ change }) => change !== SAME) ? CHANGED : ALL));
  const matching = useMemo(() => {
    const verdict = WORDS.indexOf(filter.verdict);
    const text = filter.text.toLowerCase();
    return pairs.filter((pair) => {
      const both = SIDES.map((side) => pair[side]).filter(Boolean);
      return (!filter.verdict || both.some((entry) => entry.verdict === verdict))
        && (!filter.step || either(pair).kind === filter.step)
        && (!filter.module || within(either(pair).module, filter.module))
        && (!text || both.some((entry) => anywhere(entry).includes(text)));
    });
  }, [pairs, filter]);
  const lines = useMemo(() => {
    const kept = matching.filter(({ change }) => wanted === ALL || (wanted === CHANGED ? change !== SAME : change === wanted));
    return ordered(kept.map(({ number }) => number), columns, order);
  }, [matching, wanted, columns, order]);
  const set = (name) => (value) => setFilter({ ...filter, [name]: value });
  const kinds = useMemo(() => [...new Set(pairs.map((pair) => either(pair).kind))], [pairs]);
  const changed = matching.filter(({ change }) => change !== SAME).length;
  const chip = (value, count, label) => html`<button key=${value} class="chip" aria-pressed=${wanted === value} disabled=${!count && wanted !== value} onClick=${() => setWanted(value)}>${label} <span class="quiet">${count.toLocaleString("en")}</span></button>`;

  return html`<section class="card" id=${id}>
    <h2>${heading} <span class="quiet" role="status">${lines.length.toLocaleString("en")} of ${pairs.length.toLocaleString("en")}</span></h2>
    <div class="bar chips" role="group" aria-label="change">
      ${chip(CHANGED, changed, "all changes")}
      ${ORDER.map((change) => chip(change, matching.filter((pair) => pair.change === change).length, html`<${Change} change=${change} />`))}
      ${chip(ALL, matching.length, "everything")}
    </div>
    <div class="bar">
      <${Choice} label="verdict of either" options=${WORDS.slice(0, 3)} value=${filter.verdict} onInput=${set("verdict")} />
      ${kinds.length > 1 && html`<${Choice} label="step" options=${kinds} value=${filter.step} onInput=${set("step")} />
        <label>module<input value=${filter.module} onInput=${(e) => set("module")(e.target.value)} placeholder="all" spellcheck="false" /></label>`}
      <label>text<input type="search" value=${filter.text} onInput=${(e) => set("text")(e.target.value)} spellcheck="false" /></label>
      <span class="gap" />
      <button onClick=${() => offerCsv(`compared-${kind}.csv`, fileColumns(pairs), lines)}>CSV</button>
    </div>
    ${lines.length
      ? html`<${Table} label=${heading} columns=${columns} lines=${lines} order=${order} onOrder=${(column) => setOrder(turned(order, column))} selected=${selected} onPick=${onPick} />`
      : html`<p class="quiet">${matching.length ? "None of these changed." : "Nothing fits these filters."}</p>`}
  </section>`;
}

const ROWS = [
  ["verdict", (entry) => WORDS[entry.verdict]], ["x bound", (e) => short(e.ratio)], ["error", (e) => short(e.error)], ["bound", (e) => short(e.bound)],
  ["relative", (e) => short(e.relative_error)], ["ulps", (e) => short(e.ulps)], ["detects", (e) => short(e.detects_relative, 2)], ["norm", (e) => short(e.norm)],
  ["digits", (e) => (Number.isNaN(e.digits) ? "-" : digitsRight(e.digits))], ["outside", (e) => `${e.refuted} of ${e.size}`],
  ["worst at", (e) => e.at], ["torch has", (e) => e.recorded], ["witness has", (e) => e.expected], ["what", (e) => e.reason],
];

// Both sides' numbers of a pair; what differs stands out.
export function Beside({ pair }) {
  const rows = ROWS.map(([label, show]) => [label, ...SIDES.map((side) => (pair[side] ? show(pair[side]) : "absent"))]);
  return html`<table class="figures beside">
    <thead><tr><td><${Change} change=${pair.change} /></td>${SIDES.map((side) => html`<th scope="col" key=${side}>${side}</th>`)}</tr></thead>
    <tbody>${rows.filter(([, ...both]) => both.some((text) => !["", "-", "absent"].includes(text))).map(([label, ...both]) => html`<tr key=${label} class=${both[0] === both[1] ? "" : "differs"}>
      <th scope="row">${label}</th>${both.map((text, i) => html`<td key=${i}>${label === "verdict" && pair[SIDES[i]] ? html`<${Verdict} verdict=${pair[SIDES[i]].verdict} />` : html`<bdi>${text}</bdi>`}</td>`)}</tr>`)}</tbody>
  </table>`;
}

export function PairPanel({ pair }) {
  const { kind, title, module, line } = either(pair);
  return html`<div class="panel-body">
    <h2>${kind}${kind === "gradient" ? " of " : ": "}<bdi>${title}</bdi></h2>
    <p class="quiet">${module && html`in module <bdi>${module}</bdi>`}${module && line ? ", " : ""}<bdi>${line}</bdi></p>
    <${Beside} pair=${pair} />
  </div>`;
}

// A page about two reports of which neither has a graph.
export function Graphless({ comparison, none }) {
  const [, button] = useTheme();
  const [pair, setPair] = useState(() => addressedPair(comparison));
  const [filter, setFilter] = useState(none);
  const [among, setAmong] = useState(none);
  useEffect(() => {
    const follow = () => setPair(addressedPair(comparison));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const pick = (kind) => (number) => (location.hash = `#${kind}${number}`);
  const selected = (list) => (list.includes(pair) ? pair.number : -1);
  return html`${button}
    <div class="workbench">
      <${Pairs} id="pairs" kind="steps" heading="Steps" pairs=${comparison.steps} filter=${filter} setFilter=${setFilter} selected=${selected(comparison.steps)} onPick=${pick("p")} />
      <aside class="card panel" id="panel" aria-label="The selected pair" tabindex="0">
        ${pair ? html`<${PairPanel} pair=${pair} />` : html`<p class="quiet">Select a line of a table.</p>`}
      </aside>
    </div>
    <${Pairs} id="gradient-pairs" kind="gradients" heading="Gradients" pairs=${comparison.gradients} filter=${among} setFilter=${setAmong} selected=${selected(comparison.gradients)} onPick=${pick("g")} />`;
}
