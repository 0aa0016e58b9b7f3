// The graph on a canvas: what is visible, in as much detail as its size allows.
import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import { graded, ofName, theme } from "./colours.js";
import { CHANGE_MARKS, SAME, WORSE } from "./pairs.js";
import { DISAGREES, MARKS, UNJUDGED } from "./verdicts.js";

const FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace";
// Of boxes on the screen at once; beyond it, a picture of all of them is shown instead.
const MOST_BOXES = 4000;
const DENSITY = 2048;
const TEXT_FROM = 0.4, LABELS_FROM = 0.62, MARGIN = 24;
// The width of a character for each pixel of its height; the smallest text that can be read.
const CHAR = 0.61, LEAST_TEXT = 4.5;

export class GraphCanvas {
  constructor(canvas, minimap, { onPick, onOpen }) {
    Object.assign(this, { canvas, minimap, onPick, onOpen });
    this.context = canvas.getContext("2d");
    this.transform = zoomIdentity;
    this.selected = -1;
    this.found = new Set();
    this.mode = "verdict";
    this.colours = theme();
    this.zoom = zoom().on("zoom", ({ transform }) => {
      this.transform = transform;
      this.isFitted = false;
      this.redraw();
    });
    select(canvas).call(this.zoom).on("dblclick.zoom", null);
    canvas.addEventListener("click", (event) => this.onPick(this.boxAt(event)));
    canvas.addEventListener("dblclick", (event) => this.onOpen(this.boxAt(event)));
    canvas.addEventListener("mousemove", (event) => {
      canvas.style.cursor = this.boxAt(event) < 0 ? "grab" : "pointer";
    });
    minimap.addEventListener("pointerdown", (event) => this.jump(event));
    minimap.addEventListener("pointermove", (event) => event.buttons && this.jump(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
  }

  show(view, digits) {
    this.view = view;
    this.digits = digits;
    const norms = [...view.arriving].filter((n) => n > 0 && Number.isFinite(n)).map(Math.log10);
    this.range = [norms.reduce((a, b) => Math.min(a, b), Infinity), norms.reduce((a, b) => Math.max(a, b), -Infinity)];
    this.selected = -1;
    this.found = new Set();
    this.density = null;
    this.compare(this.changes);
    this.resize();
    this.fit();
  }
  // What became of each node, if there is another report to compare with.
  compare(changes) {
    this.changes = changes;
    const most = (box) => this.view.nodesOf(box).reduce((most, node) => Math.max(most, changes.get(node) ?? -1), -1);
    this.changed = changes && this.view && Array.from({ length: this.view.boxes }, (_, box) => most(box));
  }
  recolour() {
    this.colours = theme();
    this.density = null;
    this.redraw();
  }
  colourBy(mode) {
    this.mode = mode;
    this.recolour();
  }
  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    Object.assign(this, { width: clientWidth, height: clientHeight, ratio });
    this.canvas.width = clientWidth * ratio;
    this.canvas.height = clientHeight * ratio;
    this.minimap.width = this.minimap.clientWidth * ratio;
    this.minimap.height = this.minimap.clientHeight * ratio;
    if (this.view) {
      this.zoom.scaleExtent([this.fitting() / 2, 4]);
      if (this.isFitted) this.fit();
      // At once: a canvas of another size is empty.
      this.drawAll();
    }
  }
  fitting() {
    const { width, height } = this.view;
    return Math.min((this.width - 2 * MARGIN) / width, (this.height - 2 * MARGIN) / height, 1.25) || 1;
  }
  fit(boxes = null) {
    const view = this.view;
    let extent = [0, 0, view.width, view.height];
    if (boxes?.length) {
      extent = [Infinity, Infinity, -Infinity, -Infinity];
      for (const box of boxes) {
        extent[0] = Math.min(extent[0], view.x[box]);
        extent[1] = Math.min(extent[1], view.y[box]);
        extent[2] = Math.max(extent[2], view.x[box] + view.w[box]);
        extent[3] = Math.max(extent[3], view.y[box] + view.h[box]);
      }
    }
    const [left, top, right, bottom] = extent;
    const scale = Math.min((this.width - 2 * MARGIN) / (right - left), (this.height - 2 * MARGIN) / (bottom - top), 1.25) || 1;
    const k = Math.max(scale, boxes?.length ? 0.05 : 0);
    this.moveTo((left + right) / 2, (top + bottom) / 2, k);
    this.isFitted = !boxes;
  }
  centre(box) {
    const view = this.view;
    const k = Math.max(this.transform.k, 0.8);
    this.moveTo(view.x[box] + view.w[box] / 2, view.y[box] + view.h[box] / 2, k);
  }
  moveTo(x, y, k) {
    const to = zoomIdentity.translate(this.width / 2 - k * x, this.height / 2 - k * y).scale(k);
    select(this.canvas).call(this.zoom.transform, to);
  }
  pan(dx, dy) {
    select(this.canvas).call(this.zoom.translateBy, dx / this.transform.k, dy / this.transform.k);
  }
  scale(factor) {
    select(this.canvas).call(this.zoom.scaleBy, factor);
  }
  select(box) {
    this.selected = box;
    this.redraw();
  }
  isVisible(box) {
    const [left, top, right, bottom] = this.seen();
    const view = this.view;
    return view.x[box] >= left && view.y[box] >= top && view.x[box] + view.w[box] <= right && view.y[box] + view.h[box] <= bottom;
  }
  boxAt(event) {
    if (!this.view) return -1;
    const [x, y] = this.transform.invert([event.offsetX, event.offsetY]);
    return this.view.boxesIn(x, y, x, y).at(-1) ?? -1;
  }
  seen() {
    const [left, top] = this.transform.invert([0, 0]);
    const [right, bottom] = this.transform.invert([this.width, this.height]);
    return [left, top, right, bottom];
  }

  redraw() {
    if (this.waiting || !this.view) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawAll();
    });
  }
  drawAll() {
    const started = performance.now();
    this.draw();
    this.drawMinimap();
    this.canvas.dataset.milliseconds = (performance.now() - started).toFixed(1);
  }
  draw() {
    const { context: c, view, transform, ratio } = this;
    const seen = this.seen();
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = this.colours.paper;
    c.fillRect(0, 0, this.width, this.height);
    c.setTransform(ratio * transform.k, 0, 0, ratio * transform.k, ratio * transform.x, ratio * transform.y);
    const boxes = view.boxesIn(...seen);
    if (boxes.length > MOST_BOXES) {
      c.drawImage(this.densityPicture(), 0, 0, view.width, view.height);
    } else {
      for (const box of boxes) if (view.isFrame(box)) this.drawBox(c, box);
      for (const arrow of view.arrowsIn(...seen)) this.drawArrow(c, arrow);
      for (const box of boxes) if (!view.isFrame(box)) this.drawBox(c, box);
    }
    this.mark(c, boxes.length > MOST_BOXES ? [...view.verdict.keys()].filter((b) => this.markOf(b)?.isLoud) : boxes);
  }
  colourOf(box) {
    const { view, colours } = this;
    const verdict = view.verdict[box];
    const plain = { fill: colours.grounds[verdict], ink: colours.ink };
    if (view.isFrame(box)) return { fill: colours.card, ink: colours.ink };
    if (this.mode === "change") return { ...plain, fill: colours.card, edge: colours.edges[UNJUDGED], ...colours.changes[this.changed[box]] };
    if (this.mode === "norm") {
      const norm = view.arriving[box];
      if (norm === 0) return { fill: colours.card, ink: colours.ink };
      if (!(norm > 0)) return { fill: colours.grounds[UNJUDGED], ink: colours.ink };
      const [low, high] = this.range;
      return Number.isFinite(norm) ? graded(high > low ? (Math.log10(norm) - low) / (high - low) : 0.5) : { fill: colours.edges[DISAGREES], ink: colours.paper };
    }
    if (this.mode === "digits") {
      const known = [...view.nodesOf(box)].map((node) => this.digits.get(node)).filter((d) => d !== undefined && !Number.isNaN(d));
      return known.length ? graded(Math.min(...known) / 16) : { fill: colours.grounds[UNJUDGED], ink: colours.ink };
    }
    if (this.mode === "module") {
      const name = this.moduleOf(box).split(".")[0];
      const own = ofName(name, this.isDark());
      return own ? { ...own, ink: colours.ink } : plain;
    }
    return plain;
  }
  moduleOf(box) {
    return this.view.path(box) || (this.view.nodesOf(box).length ? this.modules(this.view.nodesOf(box)[0]) : "");
  }
  isDark() {
    return this.colours.ink.match(/\d+/g).slice(0, 3).reduce((sum, c) => sum + Number(c), 0) > 384;
  }
  drawBox(c, box) {
    const { view, colours, transform } = this;
    const [x, y, w, h] = [view.x[box], view.y[box], view.w[box], view.h[box]];
    const verdict = view.verdict[box];
    const { fill, ink, edge = colours.edges[verdict] } = this.colourOf(box);
    const isFilled = this.mode === "verdict" || this.mode === "change";
    const isSmall = transform.k < TEXT_FROM && !view.isFrame(box);
    // Without its text, a box is seen by its colour alone.
    c.fillStyle = isSmall && isFilled ? edge : fill;
    c.strokeStyle = edge;
    c.lineWidth = this.markOf(box)?.isLoud ? 3 : 1.4;
    c.beginPath();
    if (transform.k < 0.15) c.rect(x, y, w, h);
    else c.roundRect(x, y, w, h, view.role(box) === "result" ? h / 2 : 6);
    c.fill();
    if (view.inherits[box] && verdict !== DISAGREES && this.mode !== "change") {
      c.strokeStyle = colours.edges[DISAGREES];
      c.setLineDash([7, 4]);
    }
    if (view.role(box) === "missing") c.setLineDash([2, 3]);
    if (transform.k * h > 4) c.stroke();
    c.setLineDash([]);
    if (view.isModule(box) && transform.k > 0.15) {
      c.strokeRect(x + 4, y - 3, w - 8, 0);
    }
    const lines = view.lines(box).split("\n");
    c.textBaseline = "middle";
    if (isSmall) {
      // Its first line alone, of a module the end of it, as large as there is room for.
      const line = view.isModule(box) ? lines[0].split(".").slice(-2).join(".") : lines[0];
      const size = Math.min((w - 12) / (line.length * CHAR), 0.6 * h);
      if (size * transform.k < LEAST_TEXT) return;
      c.fillStyle = isFilled ? colours.paper : ink;
      c.font = `bold ${size}px ${FONT}`;
      c.textAlign = "center";
      c.fillText(line, x + w / 2, y + h / 2);
      return;
    }
    c.fillStyle = ink;
    c.textAlign = "left";
    lines.forEach((line, i) => {
      c.font = `${i ? "" : "bold "}11px ${FONT}`;
      c.fillText(line, x + 10, y + 6 + 8.5 + 17 * i);
    });
  }
  // What stands beside a box: its verdict, or what became of it; the loud ones are seen at any scale.
  markOf(box) {
    const { view, colours } = this;
    if (this.mode === "change") {
      const change = this.changed[box];
      return change > SAME ? { text: CHANGE_MARKS[change], edge: colours.changes[change].edge, corners: 32, isLoud: change === WORSE } : null;
    }
    const verdict = view.verdict[box];
    return verdict === UNJUDGED ? null : { text: MARKS[verdict], edge: colours.edges[verdict], corners: [32, 8, 3][verdict], isLoud: verdict === DISAGREES };
  }
  mark(c, boxes) {
    const { view, colours, transform } = this;
    for (const box of boxes) {
      // Below its mark, which stands on its corner.
      if (box === this.selected || this.found.has(box)) {
        c.strokeStyle = colours.accent;
        c.lineWidth = (box === this.selected ? 4 : 2) / Math.min(transform.k, 1);
        const gap = 4 / Math.min(transform.k, 1);
        c.strokeRect(view.x[box] - gap, view.y[box] - gap, view.w[box] + 2 * gap, view.h[box] + 2 * gap);
      }
      const mark = this.markOf(box);
      if (mark && (mark.isLoud || transform.k >= TEXT_FROM)) {
        const { text, edge, corners } = mark;
        const size = Math.max(8, mark.isLoud ? 9 / transform.k : 0);
        const [x, y] = [view.x[box] + view.w[box], view.y[box]];
        c.fillStyle = edge;
        c.beginPath();
        for (let i = 0; i < corners; i++) {
          const turn = 2 * Math.PI * (i / corners) - Math.PI / 2 + (corners === 8 ? Math.PI / 8 : 0);
          c.lineTo(x + size * 1.1 * Math.cos(turn), y + size * 1.1 * Math.sin(turn));
        }
        c.fill();
        c.fillStyle = colours.paper;
        c.font = `bold ${size * 1.3}px ${FONT}`;
        c.textAlign = "center";
        c.textBaseline = "middle";
        c.fillText(text, x, y + size * 0.1);
      }
    }
  }
  drawArrow(c, arrow) {
    const { view, colours, transform } = this;
    const [source, target] = [view.source[arrow], view.target[arrow]];
    const isPicked = source === this.selected || target === this.selected;
    const isWrong = view.wrong[arrow];
    c.strokeStyle = isPicked ? colours.accent : isWrong ? colours.edges[DISAGREES] : colours.quiet;
    c.lineWidth = isPicked ? 2.5 : 1.3;
    c.globalAlpha = isPicked || transform.k > 0.3 ? 1 : 0.5;
    trace(c, view, arrow);
    if (view.missing[arrow]) c.setLineDash([2, 4]);
    c.stroke();
    c.setLineDash([]);
    c.globalAlpha = 1;
    if (transform.k < 0.15) return;
    const [x, y, direction] = headOf(view, arrow);
    c.fillStyle = c.strokeStyle;
    c.beginPath();
    c.moveTo(x, y);
    c.lineTo(x - 4, y - 9 * direction);
    c.lineTo(x + 4, y - 9 * direction);
    c.fill();
    if (transform.k < LABELS_FROM) return;
    c.font = `10px ${FONT}`;
    c.textAlign = "left";
    c.textBaseline = "alphabetic";
    c.strokeStyle = colours.paper;
    c.lineWidth = 3;
    c.fillStyle = colours.quiet;
    for (const { text, x, y } of labelsOf(view, arrow)) {
      c.strokeText(text, x, y);
      c.fillText(text, x, y);
    }
  }
  densityPicture() {
    if (this.density) return this.density;
    const { view } = this;
    const scale = Math.min(DENSITY / view.width, DENSITY / view.height);
    const picture = document.createElement("canvas");
    picture.width = Math.max(1, Math.ceil(view.width * scale));
    picture.height = Math.max(1, Math.ceil(view.height * scale));
    const c = picture.getContext("2d");
    c.scale(picture.width / view.width, picture.height / view.height);
    const least = 1.2 / scale;
    for (let box = 0; box < view.boxes; box++) {
      if (view.isFrame(box)) continue;
      const { fill, edge } = this.colourOf(box);
      c.fillStyle = edge ?? (this.mode === "verdict" ? this.colours.edges[view.verdict[box]] : fill);
      c.fillRect(view.x[box], view.y[box], Math.max(view.w[box], least), Math.max(view.h[box], least));
    }
    this.density = picture;
    return picture;
  }
  drawMinimap() {
    const { minimap, view, ratio } = this;
    const c = minimap.getContext("2d");
    const scale = Math.min(minimap.width / view.width, minimap.height / view.height);
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.fillStyle = this.colours.card;
    c.fillRect(0, 0, minimap.width, minimap.height);
    c.setTransform(scale, 0, 0, scale, (minimap.width - scale * view.width) / 2, (minimap.height - scale * view.height) / 2);
    this.toMinimap = c.getTransform();
    c.drawImage(this.densityPicture(), 0, 0, view.width, view.height);
    const [left, top, right, bottom] = this.seen();
    // Where all is in sight, it would only cover some of it.
    minimap.style.visibility = left <= 0 && top <= 0 && right >= view.width && bottom >= view.height ? "hidden" : "";
    c.strokeStyle = this.colours.accent;
    c.lineWidth = (2 * ratio) / scale;
    c.strokeRect(left, top, right - left, bottom - top);
  }
  jump(event) {
    if (!this.toMinimap) return;
    const point = new DOMPoint(event.offsetX * this.ratio, event.offsetY * this.ratio);
    const { x, y } = point.matrixTransform(this.toMinimap.inverse());
    this.moveTo(x, y, this.transform.k);
  }
}

// The path of an arrow, piece by piece.
export function trace(c, view, arrow) {
  const { points } = view;
  c.beginPath();
  for (const [from, to] of view.piecesOf(arrow)) {
    c.moveTo(points[2 * from], points[2 * from + 1]);
    for (let p = 2 * (from + 1); p < 2 * to; p += 6) {
      c.bezierCurveTo(points[p], points[p + 1], points[p + 2], points[p + 3], points[p + 4], points[p + 5]);
    }
  }
}

// Where an arrow ends, and whether it points down (1) or up (-1).
export function headOf(view, arrow) {
  const [, to] = view.piecesOf(arrow).at(-1);
  const [x, y] = view.points.subarray(2 * to - 2);
  return [x, y, y <= view.y[view.target[arrow]] + 1 ? 1 : -1];
}

// What is written on an arrow: its gradient, shape and norm; where several meet at a box, above each
// other. One that is cut says at its beginning where it goes.
export function labelsOf(view, arrow) {
  const [x, y, direction] = headOf(view, arrow);
  const labels = [{ text: view.label(arrow), x: x + 6, y: y - direction * (13 + 11 * (view.rank[arrow] % 4)) }];
  const pieces = view.piecesOf(arrow);
  if (pieces.length > 1) {
    const [x, y] = view.points.subarray(2 * pieces[0][1] - 2);
    labels.push({ text: `to ${view.lines(view.target[arrow]).split("\n")[0]}`, x: x + 4, y: y + 4 });
  }
  return labels;
}
