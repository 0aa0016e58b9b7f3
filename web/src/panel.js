// Everything about one node of the graph, or about a folded module.
import { Beside } from "./compare.js";
import { html } from "./html.js";
import { Errors, errorsOf } from "./errors.js";
import { Formula } from "./formula.js";
import { short } from "./numbers.js";
import { WORSE } from "./pairs.js";
import { Verdict } from "./verdicts.js";

const lines = (text) => (text ? text.split("\n") : []);

function Formulas({ heading, text }) {
  if (!text) return null;
  return html`<h3>${heading}</h3><ul class="formulas">${lines(text).map((line) => html`<li key=${line}><${Formula} text=${line} /></li>`)}</ul>`;
}

function Tensors({ text }) {
  if (!text) return null;
  return html`<h3>Tensors</h3><table class="figures"><tbody>
    ${lines(text).map((line) => {
      const [symbol, shape, dtype, name, use] = line.split("\t");
      return html`<tr key=${line}><th scope="row">${symbol ? html`<${Formula} text=${symbol} />` : ""}</th><td>${shape}</td><td>${dtype}</td><td><bdi>${name}</bdi></td><td class="quiet">${use}</td></tr>`;
    })}
  </tbody></table>`;
}

// How much of its bound an error uses, on a scale from a thousandth to a thousand times.
function Gauge({ ratio }) {
  if (Number.isNaN(ratio)) return null;
  const share = ratio === 0 ? 0 : Math.min(Math.max((Math.log10(ratio) + 3) / 6, 0.02), 1);
  return html`<div class="gauge" role="img" title="Error over bound, from a thousandth to a thousand; the mark is the bound" aria-label=${`error over bound: ${short(ratio)}`}>
    <div class=${ratio > 1 ? "over" : "under"} style=${{ width: `${100 * share}%` }} /><span />
  </div>`;
}

// The powers of two by which errors are counted in ulps, and that of those which are not.
const NO_ULPS = 9999;
const ulpsOf = ({ error, ulp }, i) => (ulp[i] === NO_ULPS ? NaN : error[i] * 2 ** ulp[i]);

function Step({ steps, errors, i, isPicked }) {
  const map = errorsOf(errors, i);
  const pair = steps.pairOf?.get(i);
  const facts = [
    ["x bound", short(steps.ratio[i])],
    ["error", short(steps.error[i])],
    ["bound", short(steps.bound[i])],
    ["ulps", short(ulpsOf(steps, i))],
    ["norm", short(steps.norm[i])],
    ["worst at", steps.at(i)],
  ];
  // Each on a line of its own: numbers with all of their digits are not broken.
  const texts = [
    ["outside", `${steps.refuted[i]} of ${steps.size[i]}`],
    ["detects", `${short(steps.detects[i], 2)} relative`],
    ["torch has", steps.recorded(i)],
    ["witness has", steps.expected(i)],
    ["rule", steps.rule(i)],
    ["what", steps.reason(i)],
    ["evidence", steps.grade(i)],
    ["next", steps.advice(i)],
  ];
  const isKnown = ([, value]) => value && value !== "-" && !value.startsWith("- ");
  return html`<details class="step" open=${isPicked || steps.verdict[i] !== 0 || pair?.change === WORSE} data-step=${i} aria-current=${isPicked}>
    <summary><${Verdict} verdict=${steps.verdict[i]} /> ${steps.steps[steps.step[i]]}: <bdi>${steps.title(i)}</bdi></summary>
    <${Gauge} ratio=${steps.ratio[i]} />
    ${pair ? html`<${Beside} pair=${pair} />` : html`<dl class="facts grid">${facts.filter(isKnown).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><bdi>${value}</bdi></dd></div>`)}</dl>`}
    <dl class="facts">${texts.filter(isKnown).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><bdi class="written">${value}</bdi></dd></div>`)}</dl>
    ${map && html`<${Errors} errors=${map} />`}
  </details>`;
}

// Where the worst entry of a gradient comes from.
function Derivations({ derivations, gradients, node }) {
  if (!derivations) return null;
  const own = [...derivations.gradient.keys()].filter((i) => gradients.node[derivations.gradient[i]] === node);
  return own.map((i) => html`<details class="step derivation" key=${i}>
    <summary>Where <bdi>${derivations.entry(i)}</bdi> comes from, its worst entry</summary>
    <pre>${derivations.text(i)}</pre>
    <p class="quiet">Of any other entry: gradwitness check ... --explain "<bdi>${derivations.entry(i)}</bdi>"</p>
  </details>`);
}

function Neighbours({ heading, list, nodes }) {
  if (!list.length) return null;
  return html`<h3>${heading}</h3><ul class="neighbours">${list.map(({ node, label }) => html`<li key=${`${node} ${label}`}>
    <a href=${`#n${node}`}><bdi>${nodes.name(node)}</bdi> #${node}</a> <span class="quiet"><bdi>${label}</bdi></span></li>`)}</ul>`;
}

export function NodePanel({ node, picked, data, worked, around }) {
  const { nodes, steps, stepsOf } = data;
  const own = stepsOf.get(node) ?? [];
  return html`<div class="panel-body">
    <h2><bdi>${nodes.name(node)}</bdi> #${node}</h2>
    <p class="quiet">${nodes.module(node) ? html`in module <bdi>${nodes.module(node)}</bdi>` : "outside of modules"}${nodes.line(node) ? html`, <bdi>${nodes.line(node)}</bdi>` : ""}</p>
    ${nodes.says(node) && html`<p><bdi>${nodes.says(node)}</bdi></p>`}
    <${Formulas} heading="Forward" text=${nodes.forward(node)} />
    <${Formulas} heading="Sends, g being the gradient that arrives" text=${nodes.sends(node)} />
    ${nodes.words(node) && html`<details class="quiet"><summary>What the names mean</summary><ul>${lines(nodes.words(node)).map((sentence) => html`<li key=${sentence}>${sentence}</li>`)}</ul></details>`}
    <${Tensors} text=${nodes.tensors(node)} />
    <${Neighbours} heading="Gradients arrive from" list=${around.from} nodes=${nodes} />
    <${Neighbours} heading="and go to" list=${around.to} nodes=${nodes} />
    <h3>Steps</h3>
    ${own.length ? own.map((i) => html`<${Step} key=${i} steps=${steps} errors=${worked?.errors} i=${i} isPicked=${i === picked} />`) : html`<p class="quiet">Nothing here was judged.</p>`}
    <${Derivations} derivations=${worked?.derivations} gradients=${data.gradients} node=${node} />
  </div>`;
}

// A step of no node of the graph: a call that autograd did not record.
export function StepPanel({ i, data, worked }) {
  return html`<div class="panel-body">
    <h2><bdi>${data.steps.title(i)}</bdi></h2>
    <p class="quiet">Of no node of the graph.</p>
    <${Step} steps=${data.steps} errors=${worked?.errors} i=${i} isPicked=${true} />
  </div>`;
}

export function BoxPanel({ view, box, data, onTurn, onFilter }) {
  if (!view.isModule(box)) {
    const [title] = lines(view.lines(box));
    return html`<div class="panel-body"><h2><bdi>${title}</bdi></h2>
      ${lines(view.about(box)).map((line) => html`<p key=${line}><bdi>${line}</bdi></p>`)}
      ${view.isFrame(box) && html`<p><button onClick=${onTurn}>Fold</button></p>`}</div>`;
  }
  const module = view.path(box);
  const members = view.nodesOf(box);
  const counts = [0, 0, 0];
  for (const node of members) for (const i of data.stepsOf.get(node) ?? []) counts[data.steps.verdict[i]]++;
  return html`<div class="panel-body">
    <h2><bdi>${lines(view.lines(box))[0]}</bdi></h2>
    <p>${members.length} nodes are folded into this box.</p>
    <ul class="plain">${counts.map((count, verdict) => count > 0 && html`<li key=${verdict}><${Verdict} verdict=${verdict} also=${`: ${count} steps`} /></li>`)}</ul>
    <p><button onClick=${onTurn}>Unfold</button> ${module && html`<button onClick=${() => onFilter(module)}>Show the steps of <bdi>${module}</bdi></button>`}</p>
    <h3>Nodes</h3>
    <ul class="neighbours">${[...members.subarray(0, 60)].map((node) => html`<li key=${node}><a href=${`#n${node}`}><bdi>${data.nodes.name(node)}</bdi> #${node}</a></li>`)}</ul>
    ${members.length > 60 && html`<p class="quiet">and ${members.length - 60} more</p>`}
  </div>`;
}
