// Where the errors of a step are, and how large: a map and a histogram.
import { useEffect, useRef } from "preact/hooks";
import { graded } from "./colours.js";
import { html } from "./html.js";
import { short } from "./numbers.js";

export function errorsOf(table, step) {
  const at = table?.step.indexOf(step) ?? -1;
  if (at < 0) return null;
  const width = table.decades.length + 2;
  return {
    rows: table.rows[at],
    columns: table.columns[at],
    shape: table.shape(at),
    cells: table.cells.subarray(at ? table.end[at - 1] : 0, table.end[at]),
    counts: table.counts.subarray(width * at, width * (at + 1)),
    decades: table.decades,
  };
}

export function Errors({ errors }) {
  if (errors.cells.every((error) => error === 0)) {
    return html`<p class="quiet">No number differs from the rule's in float64.</p>`;
  }
  return html`<${ErrorMap} errors=${errors} />`;
}

function ErrorMap({ errors }) {
  const canvas = useRef(null);
  const { rows, columns, cells, counts, decades, shape } = errors;
  const largest = Math.max(0, ...[...cells].filter(Number.isFinite));
  useEffect(() => {
    const c = canvas.current.getContext("2d");
    cells.forEach((error, i) => {
      // Four decades below the largest; zero is white, and what is not finite is black.
      c.fillStyle = error === 0 ? "#fff" : !Number.isFinite(error) ? "#000" : graded(1 + Math.log10(error / largest) / 4).fill;
      c.fillRect(i % columns, Math.floor(i / columns), 1, 1);
    });
  }, [errors]);
  const words = ["0", ...decades.map((d) => (d === decades[0] ? `\u2264 1e${d}` : `1e${d}`)), "not finite"];
  const most = Math.max(...counts);
  const first = counts.findIndex((n, i) => i > 0 && n > 0);
  const last = counts.findLastIndex((n) => n > 0);
  return html`<figure class="errors">
    <figcaption>Errors of ${shape}, each cell its largest; brightest ${short(largest)}, darkest a ten-thousandth of it, white none</figcaption>
    <canvas ref=${canvas} class="map" width=${columns} height=${rows} role="img" aria-label=${`Map of the errors of ${shape}`} />
    <figcaption>How many have an error of up to so much of the largest number expected</figcaption>
    <ol class="bars">${[...counts].map((n, i) => (i === 0 ? n > 0 : i >= first && i <= last) && html`<li key=${i}>
      <span>${words[i]}</span><span class="rod" style=${{ width: `${(60 * n) / most}%` }} /><span>${n.toLocaleString("en")}</span></li>`)}</ol>
  </figure>`;
}
