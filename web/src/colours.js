// Colours of the page's style sheet, resolved for a canvas, and scales for figures.
import { CHANGES } from "./pairs.js";
import { KINDS } from "./verdicts.js";

const probe = document.createElement("span");
probe.hidden = true;

function resolved(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

export function theme() {
  document.body.append(probe);
  const colours = {};
  for (const name of ["paper", "card", "ink", "quiet", "line", "accent"]) colours[name] = resolved(name);
  colours.edges = KINDS.map((kind) => resolved(`${kind}-edge`));
  colours.grounds = KINDS.map((kind) => resolved(`${kind}-ground`));
  colours.changes = CHANGES.map((change) => ({ edge: resolved(`${change}-edge`), fill: resolved(`${change}-ground`) }));
  probe.remove();
  return colours;
}

// Cividis: even in lightness, and the same to eyes that do not tell red from green.
const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];

export function graded(share) {
  const at = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  const low = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const mixed = CIVIDIS[low].map((c, i) => Math.round(c + (CIVIDIS[low + 1][i] - c) * (at - low)));
  return { fill: `rgb(${mixed})`, ink: share > 0.55 ? "#000" : "#fff" };
}

export function ofName(name, dark) {
  if (!name) return null;
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  return { fill: `hsl(${hash % 360} 45% ${dark ? 28 : 84}%)`, ink: null };
}
