// The table of all steps, its filters, and the table of gradients.
import { useMemo, useState } from "preact/hooks";
import { offerCsv, offerRecord } from "./download.js";
import { has } from "./data.js";
import { html } from "./html.js";
import { digitsRight, short } from "./numbers.js";
import { ordered, Table } from "./table.js";
import { Verdict, WORDS } from "./verdicts.js";

const MOST_OFFERED = 300;
const NONE = { verdict: "", step: "", module: "", operation: "", parameter: "", text: "" };

const figure = (title, column, width = "5.3rem") => ({
  title, width, kind: "figure", show: (i) => short(column[i]), raw: (i) => column[i],
});
// A column of texts is as wide, beside others, as its longest text is long.
const LOOKED_AT = 5000;
export function text(title, column, count, least, show = column) {
  let longest = 1;
  for (let i = 0; i < Math.min(count, LOOKED_AT); i++) longest = Math.max(longest, show(i).length);
  return { title, width: `minmax(${least}, ${longest + 3}fr)`, show, raw: column, tip: column };
}

// Of the longest of some verdicts' words, with its badge.
const widthOf = (verdicts) => `${2.5 + 0.66 * Math.max(...[...new Set(verdicts)].map((verdict) => WORDS[verdict].length), 6)}rem`;

export function stepColumns(steps) {
  return [
    { title: "verdict", width: widthOf(steps.verdict), show: (i) => html`<${Verdict} verdict=${steps.verdict[i]} />`, raw: (i) => WORDS[steps.verdict[i]] },
    { title: "step", width: "5.4rem", show: (i) => steps.steps[steps.step[i]], raw: (i) => steps.steps[steps.step[i]] },
    // Which tells the steps of a node apart.
    text("title", steps.title, steps.count, "16rem"),
    text("module", steps.module, steps.count, "5rem"),
    text("parameter", steps.parameter, steps.count, "6rem"),
    figure("x bound", steps.ratio),
    figure("error", steps.error),
    figure("bound", steps.bound),
    figure("norm", steps.norm),
    // The folders stand in the tooltip and in the file.
    text("line", steps.line, steps.count, "7rem", (i) => steps.line(i).split("/").at(-1)),
  ];
}

export function gradientColumns(gradients) {
  return [
    text("gradient of", gradients.name, gradients.count, "10rem"),
    text("shape", gradients.shape, gradients.count, "5rem"),
    { title: "verdict", width: "13rem", show: (i) => html`<${Verdict} verdict=${gradients.verdict[i]} also=${gradients.inherited[i] ? " inherited" : ""} />`, raw: (i) => WORDS[gradients.verdict[i]] },
    figure("x bound", gradients.ratio),
    figure("error", gradients.error),
    figure("norm", gradients.norm),
    { ...figure("digits", gradients.digits), show: (i) => digitsRight(gradients.digits[i]) },
    text("reason", gradients.reason, gradients.count, "10rem"),
  ];
}

export function Choice({ label, options, value, onInput }) {
  return html`<label>${label}<select value=${value} onChange=${(e) => onInput(e.target.value)}>
    <option value="">all</option>${options.map((word) => html`<option key=${word} value=${word}>${word}</option>`)}
  </select></label>`;
}

function Word({ label, name, column, count, value, onInput }) {
  const offered = useMemo(() => {
    const words = new Set();
    for (let i = 0; i < count && words.size < MOST_OFFERED; i++) if (column(i)) words.add(column(i));
    return [...words].sort();
  }, [column]);
  return html`<label>${label}<input list=${`list-${name}`} value=${value} onInput=${(e) => onInput(e.target.value)} placeholder="all" spellcheck="false" />
    <datalist id=${`list-${name}`}>${offered.map((word) => html`<option key=${word} value=${word} />`)}</datalist></label>`;
}

export function Steps({ steps, filter, setFilter, selected, onPick }) {
  const columns = useMemo(() => stepColumns(steps), [steps]);
  const [order, setOrder] = useState({ column: null, down: false });
  const kept = useMemo(() => {
    const verdict = WORDS.indexOf(filter.verdict);
    const step = steps.steps.indexOf(filter.step);
    const wanted = filter.text.toLowerCase();
    const lines = [];
    for (let i = 0; i < steps.count; i++) {
      if (filter.verdict && steps.verdict[i] !== verdict) continue;
      if (filter.step && steps.step[i] !== step) continue;
      if (filter.module && !within(steps.module(i), filter.module)) continue;
      if (filter.operation && !steps.operation(i).includes(filter.operation)) continue;
      if (filter.parameter && !steps.parameter(i).includes(filter.parameter)) continue;
      if (wanted && !`${steps.title(i)} ${steps.line(i)} ${steps.reason(i)}`.toLowerCase().includes(wanted)) continue;
      lines.push(i);
    }
    return lines;
  }, [steps, filter]);
  const lines = useMemo(() => ordered(kept, columns, order), [kept, columns, order]);
  const set = (name) => (value) => setFilter({ ...filter, [name]: value });
  const word = (name) => html`<${Word} label=${name} name=${name} column=${steps[name]} count=${steps.count} value=${filter[name]} onInput=${set(name)} />`;

  return html`<section class="card" id="steps">
    <h2>Steps <span class="quiet" role="status">${lines.length.toLocaleString("en")} of ${steps.count.toLocaleString("en")}</span></h2>
    <div class="bar">
      <${Choice} label="verdict" options=${steps.verdicts} value=${filter.verdict} onInput=${set("verdict")} />
      <${Choice} label="step" options=${steps.steps} value=${filter.step} onInput=${set("step")} />
      ${word("module")}${word("operation")}${word("parameter")}
      <label>text<input type="search" value=${filter.text} onInput=${(e) => set("text")(e.target.value)} spellcheck="false" /></label>
      <button onClick=${() => setFilter(NONE)}>Show all</button>
      <span class="gap" />
      <button onClick=${() => offerCsv("steps.csv", columns, lines)}>CSV</button>
      <button disabled=${!has("record")} title=${has("record") ? "The whole report, as --json prints it" : "So many steps are not kept as JSON in a page: save the report as .json"} onClick=${offerRecord}>JSON</button>
    </div>
    <${Table} label="Steps" columns=${columns} lines=${lines} order=${order} onOrder=${(column) => setOrder(turned(order, column))} selected=${selected} onPick=${onPick} />
  </section>`;
}
Steps.NONE = NONE;

export const within = (module, wanted) => module === wanted || module.startsWith(`${wanted}.`) || module.includes(wanted);

export const turned = (order, column) =>
  order.column !== column ? { column, down: false } : order.down ? { column: null, down: false } : { column, down: true };

export function Gradients({ gradients, selected, onPick }) {
  const columns = useMemo(() => gradientColumns(gradients), [gradients]);
  const [order, setOrder] = useState({ column: null, down: false });
  const all = useMemo(() => Array.from({ length: gradients.count }, (_, i) => i), [gradients]);
  const lines = useMemo(() => ordered(all, columns, order), [all, columns, order]);
  return html`<section class="card" id="all-gradients">
    <h2>Gradients <span class="quiet">${gradients.count.toLocaleString("en")}</span></h2>
    <div class="bar"><span class="gap" /><button onClick=${() => offerCsv("gradients.csv", columns, lines)}>CSV</button></div>
    <${Table} label="Gradients" columns=${columns} lines=${lines} order=${order} onOrder=${(column) => setOrder(turned(order, column))} selected=${selected} onPick=${onPick} />
  </section>`;
}
