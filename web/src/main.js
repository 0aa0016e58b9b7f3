import { render } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { GraphCanvas } from "./canvas.js";
import { Charts } from "./charts.js";
import { bytesOf, columnsOf, comparisonsOf, has } from "./data.js";
import { offer } from "./download.js";
import { html } from "./html.js";
import { BoxPanel, NodePanel, StepPanel } from "./panel.js";
import { Gradients, Steps } from "./steps.js";
import { svgOf } from "./svg.js";
import { addressedPair, ChangeLegend, changesOf, Graphless, Opener, PairPanel, Pairs, written } from "./compare.js";
import { useTheme } from "./theme.js";
import { AGREES, DISAGREES, KINDS, MARKS, WORDS } from "./verdicts.js";
import { folding, groupAround, stretchesOf, unfolded } from "./unfold.js";
import { drawingsOf, viewOf } from "./view.js";

// A drawing with fewer boxes than this is read at a glance: the first one shown is the deepest such.
const AT_A_GLANCE = 24;
const MODES = ["verdict", "norm", "module", "digits"];
const KEYS = [
  ["arrows", "move the graph"], ["+ and -", "zoom"], ["f", "fit"], ["n and p", "next and previous node"],
  ["w", "first wrong step"], ["u and o", "unfold and fold everything"],
  ["Enter", "unfold the selected box, or fold what it lies in"], ["/", "search"], ["Esc", "let the selection go"],
];

async function load() {
  const steps = await comparisonsOf("steps");
  const [gradients, nodes, insides] = await Promise.all([comparisonsOf("gradients", steps), columnsOf("nodes"), drawingsOf("insides", steps)]);
  steps.parameter = (i) => (steps.node[i] < 0 ? "" : nodes.parameter(steps.node[i]));
  const stepsOf = new Map();
  for (let i = 0; i < steps.count; i++) {
    const node = steps.node[i];
    if (!stepsOf.has(node)) stepsOf.set(node, []);
    stepsOf.get(node).push(i);
  }
  const digits = new Map();
  for (let i = 0; i < gradients.count; i++) digits.set(gradients.node[i], gradients.digits[i]);
  let views = 0;
  while (has(`view${views}`)) views++;
  return { steps, gradients, nodes, insides, stretches: stretchesOf(insides), stepsOf, digits, views };
}

// What the address names: #n12 is a node, #s7 a step.
function addressed({ steps, nodes }) {
  const [, kind, digits] = location.hash.match(/^#([ns])(\d+)$/) ?? [];
  const number = Number(digits);
  if (kind === "n" && number < nodes.count) return { node: number, step: -1 };
  if (kind === "s" && number < steps.count) return { node: steps.node[number], step: number };
  return { node: -1, step: -1 };
}

// The gradients that reach a node and leave it, from the drawing in which each node is a box.
function around(whole, node) {
  const box = whole?.ofNode.get(node);
  const found = { from: [], to: [] };
  if (box === undefined) return found;
  for (let arrow = 0; arrow < whole.arrows; arrow++) {
    const [source, target] = [whole.source[arrow], whole.target[arrow]];
    const entry = (other) => ({ node: whole.nodesOf(other)[0], label: whole.label(arrow) });
    if (target === box && whole.nodesOf(source).length) found.from.push(entry(source));
    if (source === box && whole.nodesOf(target).length) found.to.push(entry(target));
  }
  return found;
}

// The step to show of a node: the first that does not agree, or the first.
function telling({ steps, stepsOf }, node) {
  const own = (node >= 0 && stepsOf.get(node)) || [];
  return own.find((i) => steps.verdict[i] === DISAGREES) ?? own.find((i) => steps.verdict[i] !== AGREES) ?? own[0] ?? -1;
}

function Legend({ mode }) {
  if (mode === "change") return html`<${ChangeLegend} />`;
  if (mode === "verdict") {
    return html`<div class="legend">${WORDS.map((word, v) => html`<span key=${word}><span class="badge ${KINDS[v]}">${MARKS[v]}</span> ${word.toLowerCase()}</span>`)}
      <span><span class="dashed" /> behind a wrong step</span><span><span class="dotted" /> no gradient</span></div>`;
  }
  if (mode === "module") return html`<div class="legend">One colour for each outermost module; its name is in the box.</div>`;
  return html`<div class="legend">${mode === "norm" ? "smallest norm of what arrives" : "0 digits"} <span class="scale" /> ${mode === "norm" ? "largest" : "16 digits"}; grey: none, or not known</div>`;
}

function Graph({ data, changes, at, picked, graph, view, number, onView, onPick, onTurn, onStep }) {
  const [canvas, minimap, search] = [useRef(null), useRef(null), useRef(null)];
  const [mode, setMode] = useState("verdict");
  const [wanted, setWanted] = useState("");
  const [hit, setHit] = useState(-1);

  useEffect(() => {
    graph.current = new GraphCanvas(canvas.current, minimap.current, { onPick, onOpen: onTurn });
    graph.current.modules = data.nodes.module;
  }, []);
  useEffect(() => {
    Object.assign(graph.current, { onPick, onOpen: onTurn });
  });
  const colourBy = (word) => {
    setMode(word);
    graph.current.colourBy(word);
  };
  useEffect(() => {
    graph.current.compare(changes);
    colourBy(changes ? "change" : "verdict");
  }, [changes]);
  useEffect(() => {
    if (view) graph.current.show(view, data.digits);
  }, [view]);
  useEffect(() => {
    if (!view) return;
    const box = picked >= 0 ? picked : (view.ofNode.get(at.node) ?? -1);
    graph.current.select(box);
    if (box >= 0 && !graph.current.isVisible(box)) graph.current.centre(box);
  }, [view, at, picked]);

  const hits = useMemo(() => {
    if (!view || !wanted) return [];
    const lower = wanted.toLowerCase();
    return Array.from({ length: view.boxes }, (_, box) => box).filter((box) => {
      const names = [...view.nodesOf(box).subarray(0, 200)].map((n) => `${data.nodes.name(n)} #${n} ${data.nodes.module(n)}`);
      return `${view.lines(box)} ${names.join(" ")}`.toLowerCase().includes(lower);
    });
  }, [view, wanted]);
  useEffect(() => {
    if (!view) return;
    graph.current.found = new Set(hits);
    graph.current.redraw();
    setHit(-1);
  }, [hits]);
  const nextHit = (event) => {
    if (event.key !== "Enter" || !hits.length) return;
    const next = (hit + (event.shiftKey ? -1 : 1) + hits.length) % hits.length;
    setHit(next);
    graph.current.centre(hits[next]);
    onPick(hits[next]);
  };
  const press = (event) => {
    const drawing = graph.current;
    const acts = {
      ArrowLeft: () => drawing.pan(60, 0), ArrowRight: () => drawing.pan(-60, 0),
      ArrowUp: () => drawing.pan(0, 60), ArrowDown: () => drawing.pan(0, -60),
      "+": () => drawing.scale(1.3), "=": () => drawing.scale(1.3), "-": () => drawing.scale(1 / 1.3),
      f: () => drawing.fit(), n: () => onStep(1), p: () => onStep(-1), w: () => onStep(0),
      u: () => onView(number + 1), o: () => onView(number - 1),
      Enter: () => onTurn(drawing.selected),
      "/": () => search.current.focus(), Escape: () => onPick(-1),
    };
    if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
  };

  return html`<section class="card graph" id="graph">
    <h2>Graph <span class="quiet">${view ? `${view.shown.toLocaleString("en")} boxes, ${data.nodes.count.toLocaleString("en")} nodes` : ""}</span></h2>
    <div class="bar">
      ${data.views > 1 && html`<label>show<select id="fold" value=${number} onChange=${(e) => onView(Number(e.target.value))}>
        ${Array.from({ length: data.views }, (_, i) => html`<option key=${i} value=${i}>${i === data.views - 1 ? "every node" : i ? `depth ${i + 1}` : "folded"}</option>`)}
      </select></label>`}
      <label>colour<select id="mode" value=${mode} onChange=${(e) => colourBy(e.target.value)}>
        ${[...(changes ? ["change"] : []), ...MODES].map((word) => html`<option key=${word} value=${word}>${word}</option>`)}
      </select></label>
      <label>search<input ref=${search} id="search" type="search" value=${wanted} onInput=${(e) => setWanted(e.target.value)} onKeyDown=${nextHit} spellcheck="false" /></label>
      <span class="quiet" role="status">${wanted && (hits.length ? `${hit + 1 || ""}${hit + 1 ? " of " : ""}${hits.length} found` : "nothing found")}</span>
      <span class="gap" />
      <button id="fit" onClick=${() => graph.current.fit()}>Fit</button>
      <button id="in" aria-label="zoom in" onClick=${() => graph.current.scale(1.4)}>+</button>
      <button id="out" aria-label="zoom out" onClick=${() => graph.current.scale(1 / 1.4)}>\u2212</button>
      <button id="svg" onClick=${() => offer("graph.svg", "image/svg+xml", [svgOf(graph.current)])}>SVG</button>
    </div>
    <div class="stage">
      <canvas ref=${canvas} class="drawing" tabindex="0" role="application" onKeyDown=${press}
        aria-label="The autograd graph, from the result at the top to the leaves at the bottom. The table of steps says the same in words." />
      <canvas ref=${minimap} class="minimap" aria-hidden="true" />
    </div>
    <${Legend} mode=${mode} />
    <details class="keys"><summary>Keys</summary><dl>${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl></details>
  </section>`;
}

function Licences() {
  const [text, setText] = useState("");
  const show = async () => setText(new TextDecoder().decode(await bytesOf("licences")));
  return html`<details class="card quiet" id="licences" onToggle=${show}><summary>Licences of the script in this page</summary><pre>${text}</pre></details>`;
}

function App({ data }) {
  const [at, setAt] = useState(() => addressed(data));
  const [picked, setPicked] = useState(-1);
  const [number, setNumber] = useState(data.first);
  const [views, setViews] = useState(new Map([[data.first, data.firstView]]));
  const [filter, setFilter] = useState(Steps.NONE);
  const [comparison, setComparison] = useState(data.comparison);
  const [among, setAmong] = useState(Steps.NONE);
  const [worked, setWorked] = useState(null);
  const graph = useRef(null);
  const [groups, setGroups] = useState([]);
  const [isDark, themeButton] = useTheme(() => graph.current?.recolour());
  const changes = useMemo(() => comparison && changesOf(comparison, data.steps.node), [comparison]);
  // On top of the steps, not a copy of all their columns.
  const paired = comparison ? { ...data, steps: Object.create(data.steps, { pairOf: { value: comparison.ofStep } }) } : data;
  const whole = views.get(data.views - 1);
  const base = views.get(number);
  const view = useMemo(() => (groups.length ? unfolded(base, whole, data.insides, groups) : base), [base, groups]);

  const known = async (level) => {
    const found = views.get(level) ?? (await viewOf(level, data.steps));
    setViews((before) => new Map(before).set(level, found));
    return found;
  };
  const showing = (nodes) => requestAnimationFrame(() => requestAnimationFrame(() => {
    const { view } = graph.current;
    graph.current.fit([...new Set([...nodes].map((node) => view.ofNode.get(node)))]);
  }));
  const open = useCallback(async (wanted, opened = []) => {
    const to = Math.min(Math.max(wanted, 0), data.views - 1);
    await known(to);
    setNumber(to);
    setGroups(opened);
    setPicked(-1);
  }, [views]);
  useEffect(() => {
    if (!whole) viewOf(data.views - 1, data.steps).then((last) => setViews((before) => new Map(before).set(data.views - 1, last)));
  }, []);
  useEffect(() => {
    // Unpacked when a node is first looked at.
    if (at.node < 0 || worked) return;
    Promise.all(["errors", "derivations"].map(columnsOf)).then(([errors, derivations]) => setWorked({ errors, derivations }));
  }, [at]);
  // Before the page says that it is ready.
  useLayoutEffect(() => {
    const follow = () => {
      setPicked(-1);
      setAt(addressed(data));
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);

  const go = (hash) => {
    if (location.hash === hash) return;
    // An address, so that it can be copied and the way back leads here.
    location.hash = hash;
  };
  const pickStep = (step) => go(`#s${step}`);
  const pickBox = (box) => {
    if (box < 0) {
      history.replaceState(null, "", " ");
      setPicked(-1);
      setAt({ node: -1, step: -1 });
    } else if (view.isModule(box) || !view.nodesOf(box).length) {
      if (alone) history.replaceState(null, "", " ");
      setPicked(box);
    } else {
      go(`#n${view.nodesOf(box)[0]}`);
      setPicked(-1);
    }
  };
  // A folded box unfolds; from any other, the group that it lies in folds.
  const turn = async (box) => {
    if (box < 0) return;
    await known(data.views - 1);
    if (view.isModule(box)) {
      const [group, nodes] = [view.group[box], view.nodesOf(box)];
      if (group < 0) await open(number + 1);
      else await open(number, [...groups, group].sort((a, b) => a - b));
      return showing(nodes);
    }
    const group = groupAround(view, box, data.stretches);
    if (group < 0) return;
    const levels = await Promise.all(Array.from({ length: number + 1 }, (_, level) => known(level)));
    const folded = folding(group, levels, number, groups, data.stretches);
    if (folded.base >= 0) await open(folded.base, folded.groups);
  };
  const stepNode = (by) => {
    const wrong = data.steps.verdict.indexOf(DISAGREES);
    if (by === 0) return wrong >= 0 && pickStep(wrong);
    // Backwards from no node is the last one.
    const from = at.node < 0 && by < 0 ? 0 : at.node;
    go(`#n${(from + by + data.nodes.count) % data.nodes.count}`);
  };
  const gradient = at.node < 0 ? -1 : data.gradients.node.indexOf(at.node);
  const step = at.step >= 0 ? at.step : telling(data, at.node);
  // Of what the other report alone has, the panel is about that.
  const alone = addressedPair(comparison);
  const own = comparison?.isAfter ? "after" : "before";
  const pickPair = (pair) => (pair[own] ? pickStep(pair[own].number) : go(`#p${pair.number}`));
  const pickGradient = (pair) => go(pair[own] ? `#n${data.gradients.node[pair[own].number]}` : `#g${pair.number}`);

  return html`
    <div class="workbench">
      ${data.firstView.boxes === 0
        ? html`<section class="card" id="graph"><h2>Graph</h2><p>Nothing ran backward, so there is no graph.</p></section>`
        : html`<${Graph} data=${data} changes=${changes} at=${at} picked=${picked} graph=${graph} view=${view} number=${number} onView=${open} onPick=${pickBox} onTurn=${turn} onStep=${stepNode} />`}
      <aside class="card panel" id="panel" aria-label="The selected step" tabindex="0">
        ${alone
          ? html`<${PairPanel} pair=${alone} />`
          : picked >= 0 && view
            ? html`<${BoxPanel} view=${view} box=${picked} data=${data} onTurn=${() => turn(picked)} onFilter=${(module) => setFilter({ ...Steps.NONE, module })} />`
            : at.node >= 0
              ? html`<${NodePanel} key=${at.node} node=${at.node} picked=${at.step} data=${paired} worked=${worked} around=${around(whole, at.node)} />`
              : at.step >= 0
                ? html`<${StepPanel} key=${at.step} i=${at.step} data=${paired} worked=${worked} />`
                : html`<p class="quiet">Select a box of the graph or a line of the table.</p>`}
      </aside>
    </div>
    ${themeButton}
    ${!comparison?.isFixed && html`<${Opener} comparison=${comparison} setComparison=${setComparison} />`}
    ${comparison
      ? html`<${Pairs} key="steps" id="pairs" kind="steps" heading="Steps" pairs=${comparison.steps} filter=${filter} setFilter=${setFilter} selected=${alone?.number ?? comparison.ofStep.get(step)?.number} onPick=${(i) => pickPair(comparison.steps[i])} />
          <${Pairs} key="gradients" id="gradient-pairs" kind="gradients" heading="Gradients" pairs=${comparison.gradients} filter=${among} setFilter=${setAmong} selected=${-1} onPick=${(i) => pickGradient(comparison.gradients[i])} />`
      : html`<${Steps} steps=${data.steps} filter=${filter} setFilter=${setFilter} selected=${step} onPick=${pickStep} />`}
    <${Charts} gradients=${data.gradients} dark=${isDark} onPick=${(i) => go(`#n${data.gradients.node[i]}`)} />
    ${!comparison && html`<${Gradients} gradients=${data.gradients} selected=${gradient} onPick=${(i) => go(`#n${data.gradients.node[i]}`)} />`}
    <${Licences} />`;
}

async function begin() {
  const comparison = await written();
  if (!has("nodes")) {
    render(html`<${Graphless} comparison=${comparison} none=${Steps.NONE} /><${Licences} />`, document.getElementById("app"));
    document.documentElement.dataset.ready = "yes";
    return;
  }
  const data = { ...(await load()), comparison };
  const views = [];
  for (let i = 0; i < data.views; i++) {
    views.push(await viewOf(i, data.steps));
    if (views[i].boxes > AT_A_GLANCE) break;
  }
  data.first = Math.max(0, views.findLastIndex((view) => view.boxes <= AT_A_GLANCE));
  data.firstView = views[data.first];
  render(html`<${App} data=${data} />`, document.getElementById("app"));
  document.documentElement.dataset.ready = "yes";
}

begin().catch((error) => {
  const note = document.createElement("p");
  note.className = "card";
  note.textContent = `The graph and the tables could not be shown (${error}). What is above is complete.`;
  document.getElementById("app").replaceChildren(note);
  throw error;
});
