// The drawing that is shown, as a file of its own.
import { headOf, labelsOf, trace } from "./canvas.js";
import { DISAGREES } from "./verdicts.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 24;

function element(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

export function svgOf(graph) {
  const { view, colours } = graph;
  const root = document.createElementNS(SVG, "svg");
  const [width, height] = [view.width + 2 * MARGIN, view.height + 2 * MARGIN];
  root.setAttribute("viewBox", `${-MARGIN} ${-MARGIN} ${width} ${height}`);
  root.setAttribute("width", width);
  root.setAttribute("height", height);
  root.setAttribute("font-family", "'DejaVu Sans Mono', Menlo, Consolas, monospace");
  element(root, "rect", { x: -MARGIN, y: -MARGIN, width, height, fill: colours.paper });
  const boxes = Array.from({ length: view.boxes }, (_, box) => box);
  for (const box of boxes) if (view.isFrame(box)) addBox(root, graph, box);
  for (let arrow = 0; arrow < view.arrows; arrow++) addArrow(root, graph, arrow);
  for (const box of boxes) if (!view.isFrame(box)) addBox(root, graph, box);
  return new XMLSerializer().serializeToString(root);
}

function addArrow(root, { view, colours }, arrow) {
  const ink = view.wrong[arrow] ? colours.edges[DISAGREES] : colours.quiet;
  const steps = [];
  const pen = {
    beginPath() {},
    moveTo: (...p) => steps.push(`M${p.join(" ")}`),
    lineTo: (...p) => steps.push(`L${p.join(" ")}`),
    bezierCurveTo: (...p) => steps.push(`C${p.join(" ")}`),
  };
  trace(pen, view, arrow);
  element(root, "path", { d: steps.join(""), fill: "none", stroke: ink, "stroke-width": 1.3, "stroke-dasharray": view.missing[arrow] ? "2 4" : "none" });
  const [x, y, direction] = headOf(view, arrow);
  element(root, "path", { d: `M${x} ${y}l-4 ${-9 * direction}h8Z`, fill: ink });
  for (const label of labelsOf(view, arrow)) {
    element(root, "text", { x: label.x, y: label.y, "font-size": 10, fill: colours.quiet }, label.text);
  }
}

function addBox(root, graph, box) {
  const { view, colours } = graph;
  const verdict = view.verdict[box];
  const { fill, ink, edge = colours.edges[verdict] } = graph.colourOf(box);
  const mark = graph.markOf(box);
  const [x, y, width, height] = [view.x[box], view.y[box], view.w[box], view.h[box]];
  element(root, "rect", { x, y, width, height, rx: 6, fill, stroke: edge, "stroke-width": verdict === DISAGREES ? 3 : 1.4 });
  view.lines(box).split("\n").forEach((line, i) => {
    element(root, "text", { x: x + 10, y: y + 18 + 17 * i, "font-size": 11, "font-weight": i ? "normal" : "bold", fill: ink }, line);
  });
  if (mark) {
    element(root, "circle", { cx: x + width, cy: y, r: 9, fill: mark.edge });
    element(root, "text", { x: x + width, y: y + 4, "font-size": 11, "text-anchor": "middle", fill: colours.paper }, mark.text);
  }
}
