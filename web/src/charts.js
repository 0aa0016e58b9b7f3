// Norms and right digits of the gradients, in the order of the network.
import uPlot from "uplot";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { theme } from "./colours.js";
import { html } from "./html.js";
import { short } from "./numbers.js";
import { DISAGREES } from "./verdicts.js";

// Of a root mean square, against the largest one; and of a norm as it is.
const VANISHING = 1e-6, EXPLODING = 1e3;
// Beyond so many, the usual ones are on the line alone: as dots they would cover it, and take seconds.
const MANY = 500;
const GLYPHS = { usual: "\u25cf", vanishing: "\u25bd", exploding: "\u25b3", zero: "\u25cb", "not finite": "\u2715", absent: "\u2013" };

export function statesOf(gradients) {
  const each = Array.from({ length: gradients.count }, (_, i) => gradients.norm[i] / Math.sqrt(Math.max(gradients.size[i], 1)));
  const largest = each.reduce((most, n) => (Number.isFinite(n) && n > most ? n : most), 0);
  return each.map((n, i) => {
    if (gradients.absent[i]) return "absent";
    if (!Number.isFinite(n)) return "not finite";
    if (n === 0) return "zero";
    return gradients.norm[i] > EXPLODING ? "exploding" : n < VANISHING * largest ? "vanishing" : "usual";
  });
}

function Plot({ label, values, glyphs, names, log, onPick }) {
  const place = useRef(null);
  useEffect(() => {
    const box = place.current;
    const colours = theme();
    const known = values.filter((v) => v !== null);
    const [low, high] = known.length
      ? known.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity])
      : [0, 1];
    const isMany = values.length > MANY;
    const shown = values.map((v, i) => v ?? (glyphs[i] === GLYPHS.zero ? low : high));
    const clipped = (name) => (name.length > 16 ? `${name.slice(0, 15)}\u2026` : name);
    const plot = new uPlot(
      {
        width: box.clientWidth,
        height: 260,
        // The last names go on beyond the last tick.
        padding: [null, 6 * Math.max(0, ...names.slice(-20).map((name) => clipped(name).length)), null, null],
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false } },
        scales: { x: { time: false, range: [-0.5, values.length - 0.5] }, y: { range: (_, a, b) => { const room = (b - a || 1) * 0.1; return [a - room, b + room]; } } },
        axes: [
          {
            stroke: colours.quiet, grid: { show: false }, ticks: { stroke: colours.line }, rotate: -40, size: 96, space: 18,
            splits: () => values.map((_, i) => i), values: (_, splits) => {
              const each = Math.ceil(splits.length / (box.clientWidth / 30));
              return splits.map((i) => (i % each ? null : clipped(names[i])));
            },
          },
          { stroke: colours.quiet, grid: { stroke: colours.line }, ticks: { stroke: colours.line }, size: 64, values: (_, splits) => splits.map((v) => (log ? short(10 ** v, 2) : short(v, 2))) },
        ],
        series: [{}, { label, stroke: isMany ? colours.accent : colours.quiet, width: 1, points: { show: false } }],
        hooks: {
          draw: [(u) => {
            const c = u.ctx;
            const ratio = window.devicePixelRatio || 1;
            c.font = `${13 * ratio}px sans-serif`;
            c.textAlign = "center";
            c.textBaseline = "middle";
            shown.forEach((v, i) => {
              const isUsual = glyphs[i] === GLYPHS.usual;
              if (isMany && isUsual) return;
              c.fillStyle = isUsual ? colours.accent : colours.edges[DISAGREES];
              c.fillText(glyphs[i], u.valToPos(i, "x", true), u.valToPos(v, "y", true));
            });
          }],
        },
      },
      [values.map((_, i) => i), shown],
      box,
    );
    const resized = new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 260 }));
    resized.observe(box);
    const pick = () => plot.cursor.idx !== null && onPick(plot.cursor.idx);
    plot.over.addEventListener("click", pick);
    return () => {
      resized.disconnect();
      plot.destroy();
    };
  }, [values]);
  return html`<div class="plot" ref=${place} role="img" aria-label=${label} />`;
}

function seriesOf(gradients) {
  const names = Array.from({ length: gradients.count }, (_, i) => gradients.name(i));
  const states = statesOf(gradients);
  const isDrawn = (state) => ["usual", "vanishing", "exploding"].includes(state);
  return {
    names,
    states,
    norms: states.map((state, i) => (isDrawn(state) ? Math.log10(gradients.norm[i]) : null)),
    digits: names.map((_, i) => (Number.isFinite(gradients.digits[i]) ? gradients.digits[i] : null)),
  };
}

export function Charts({ gradients, dark, onPick }) {
  const { names, states, norms, digits } = useMemo(() => seriesOf(gradients), [gradients]);
  if (!gradients.count) return null;
  const odd = states.map((state, i) => [state, i]).filter(([state]) => state !== "usual");
  return html`<section class="card" id="charts">
    <h2>Gradients by depth</h2>
    <div class="two">
      <figure><figcaption>Norm of each gradient</figcaption><${Plot} key=${`norm ${dark}`} label="Norm of each gradient" values=${norms} glyphs=${states.map((s) => GLYPHS[s])} names=${names} log=${true} onPick=${onPick} /></figure>
      ${digits.some((d) => d !== null) && html`<figure><figcaption>Digits that are right, by the float64 replay</figcaption><${Plot} key=${`digits ${dark}`} label="Right digits of each gradient" values=${digits} glyphs=${digits.map((d) => (d === null ? "" : GLYPHS.usual))} names=${names} onPick=${onPick} /></figure>`}
    </div>
    ${odd.length ? html`<ul class="marks">${odd.slice(0, 40).map(([state, i]) => html`<li key=${i}><span class="disagrees" aria-hidden="true">${GLYPHS[state]}</span> ${state}: <a href=${`#n${gradients.node[i]}`}><bdi>${names[i]}</bdi></a></li>`)}${odd.length > 40 && html`<li>and ${odd.length - 40} more</li>`}</ul>` : html`<p class="quiet">None vanishes, explodes, is zero, infinite or NaN.</p>`}
    <p class="quiet">\u25bd vanishing: norm / sqrt(size) is under a millionth of the largest; \u25b3 exploding: the norm is over 1000; \u25cb zero; \u2715 infinite or NaN; \u2013 absent.</p>
  </section>`;
}
