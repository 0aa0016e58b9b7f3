// Folded boxes unfolded one at a time, and folded again. Everything else makes room and keeps its
// order: the plane is stretched where a box opens, and what is in it, laid out when the page was
// written, stands in a frame there.
import { short } from "./numbers.js";
import { View } from "./view.js";

const PAD = 28, TITLE = 40;
const BOX = ["x", "y", "w", "h", "verdict", "inherits", "group", "begin", "end"];
const BOX_TEXTS = ["role", "lines", "path", "about"];
const ARROW = ["wrong", "missing", "norm"];

// A drawing with some groups unfolded, given by number: outer ones come first.
export function unfolded(base, whole, insides, groups) {
  let drawing = drawingOf(base.table, 0);
  for (const group of groups) {
    const box = drawing.boxes.find((each) => each.group === group && each.role !== "frame");
    if (box) drawing = unfold(drawing, box, drawingOf(insides, group), whole);
  }
  return new View(tableOf(drawing));
}

// The stretch of nodes in each group.
export function stretchesOf(insides) {
  return Array.from(insides.boxes_end, (end, group) => {
    const from = group ? insides.boxes_end[group - 1] : 0;
    return [Math.min(...insides.begin.subarray(from, end)), Math.max(...insides.end.subarray(from, end))];
  });
}

const within = ([begin, end], [first, last]) => first <= begin && end <= last;

// The smallest group around a box, or -1; of a frame, the group in it.
export function groupAround(view, box, stretches) {
  if (view.isFrame(box)) return view.group[box];
  const own = [view.begin[box], view.end[box]];
  let found = -1;
  stretches.forEach((each, group) => {
    if (group !== view.group[box] && within(own, each) && (found < 0 || within(each, stretches[found]))) found = group;
  });
  return found;
}

// Of drawings to deeper and deeper levels, and groups unfolded in one of them: a drawing, and groups
// to unfold in it, that show the same, but one group folded.
export function folding(group, levels, from, groups, stretches) {
  const isOpen = (each, level) => !Array.from(level.begin.keys()).some((box) => within(stretches[each], [level.begin[box], level.end[box]]));
  const base = groups.includes(group) ? from : levels.findLastIndex((level, i) => i < from && !isOpen(group, level));
  const kept = [...stretches.keys()].filter((each) => !within(stretches[each], stretches[group]) && (groups.includes(each) || isOpen(each, levels[from])));
  return { base, groups: kept };
}

// One of the drawings in a table, as objects; coordinates are copied.
function drawingOf(table, number) {
  const [from, to] = [number ? table.boxes_end[number - 1] : 0, table.boxes_end[number]];
  const boxes = [];
  for (let i = from; i < to; i++) {
    const box = { nodes: table.nodes.subarray(i ? table.nodes_end[i - 1] : 0, table.nodes_end[i]) };
    for (const name of BOX) box[name] = table[name][i];
    for (const name of BOX_TEXTS) box[name] = table[name](i);
    boxes.push(box);
  }
  const arrows = [];
  for (let i = number ? table.arrows_end[number - 1] : 0; i < table.arrows_end[number]; i++) {
    const arrow = { source: boxes[table.source[i] - from], target: boxes[table.target[i] - from], label: table.label(i), pieces: [] };
    for (const name of ARROW) arrow[name] = table[name][i];
    for (let piece = i ? table.route_end[i - 1] : 0; piece < table.route_end[i]; piece++) {
      arrow.pieces.push([...table.points.subarray(piece ? 2 * table.piece_end[piece - 1] : 0, 2 * table.piece_end[piece])]);
    }
    arrows.push(arrow);
  }
  return { boxes, arrows, width: table.width[number], height: table.height[number] };
}

function tableOf({ boxes, arrows, width, height }) {
  const table = { width: [width], height: [height] };
  for (const name of BOX) table[name] = boxes.map((box) => box[name]);
  for (const name of BOX_TEXTS) table[name] = (i) => boxes[i][name];
  for (const name of ARROW) table[name] = arrows.map((arrow) => arrow[name]);
  const ends = (sizes) => sizes.map(((sum) => (size) => (sum += size))(0));
  table.nodes_end = ends(boxes.map((box) => box.nodes.length));
  table.nodes = Uint32Array.from(boxes.flatMap((box) => [...box.nodes]));
  const numbers = new Map(boxes.map((box, i) => [box, i]));
  table.source = arrows.map((arrow) => numbers.get(arrow.source));
  table.target = arrows.map((arrow) => numbers.get(arrow.target));
  table.label = (i) => arrows[i].label;
  const pieces = arrows.flatMap((arrow) => arrow.pieces);
  table.points = Float32Array.from(pieces.flat());
  table.piece_end = ends(pieces.map((piece) => piece.length / 2));
  table.route_end = ends(arrows.map((arrow) => arrow.pieces.length));
  table.boxes_end = [boxes.length];
  table.arrows_end = [arrows.length];
  return table;
}

function unfold(drawing, box, inside, whole) {
  const { x, y } = box;
  const [w, h] = [Math.max(box.w, inside.width + 2 * PAD), Math.max(box.h, inside.height + TITLE + PAD)];
  // Never shrinks a distance, so that what is apart stays apart.
  const stretch = (at, from, size, to) => (at <= from ? at : at >= from + size ? at + to - size : from + ((at - from) * to) / size);
  const across = (at) => stretch(at, x, box.w, w);
  const down = (at) => stretch(at, y, box.h, h);
  const moves = new Map();
  for (const each of drawing.boxes) {
    if (each === box) continue;
    if (each.role === "frame") {
      const [right, bottom] = [across(each.x + each.w), down(each.y + each.h)];
      Object.assign(each, { x: across(each.x), y: down(each.y) });
      Object.assign(each, { w: right - each.x, h: bottom - each.y });
    } else {
      const [cx, cy] = [each.x + each.w / 2, each.y + each.h / 2];
      const [dx, dy] = [across(cx) - cx, down(cy) - cy];
      Object.assign(each, { x: each.x + dx, y: each.y + dy });
      moves.set(each, [dx, dy]);
    }
  }
  for (const arrow of drawing.arrows) {
    arrow.pieces.forEach((piece, n) => {
      const last = n === arrow.pieces.length - 1;
      for (let i = 0; i < piece.length; i += 2) {
        // Ends keep to their boxes.
        const end = n === 0 && i < 4 ? arrow.source : last && i >= piece.length - 4 ? arrow.target : box;
        const [dx, dy] = moves.get(end) ?? [across(piece[i]) - piece[i], down(piece[i + 1]) - piece[i + 1]];
        piece[i] += dx;
        piece[i + 1] += dy;
      }
    });
  }
  const [left, top] = [x + (w - inside.width) / 2, y + TITLE];
  for (const each of inside.boxes) Object.assign(each, { x: each.x + left, y: each.y + top });
  for (const { pieces } of inside.arrows) {
    for (const piece of pieces) piece.forEach((_, i) => (piece[i] += i % 2 ? top : left));
  }
  const boxes = [...drawing.boxes, ...inside.boxes];
  const crossing = crossings(drawing, box, boxes, whole);
  const kept = drawing.arrows.filter(({ source, target }) => source !== box && target !== box);
  const title = box.lines.split("\n")[0];
  Object.assign(box, { w, h, role: "frame", lines: title, nodes: [] });
  return { boxes, arrows: [...kept, ...inside.arrows, ...crossing], width: across(drawing.width), height: down(drawing.height) };
}

// The arrows over a frame's edge: as they went to its box, and on to what they mean in it.
function crossings(drawing, frame, boxes, whole) {
  const owner = new Array(whole.boxes);
  for (const each of boxes) if (each !== frame && each.role !== "frame") owner.fill(each, each.begin, each.end);
  const bundles = new Map();
  for (let arrow = 0; arrow < whole.arrows; arrow++) {
    const [source, target] = [owner[whole.begin[whole.source[arrow]]], owner[whole.begin[whole.target[arrow]]]];
    const [leaves, enters] = [source, target].map((each) => frame.begin <= each.begin && each.end <= frame.end);
    if (leaves === enters) continue;
    const way = drawing.arrows.find((each) => each.source === (leaves ? frame : source) && each.target === (enters ? frame : target) && each.missing === whole.missing[arrow]);
    const key = [source.begin, target.begin, way.missing].join();
    if (!bundles.has(key)) bundles.set(key, { source, target, missing: way.missing, wrong: 0, norm: NaN, labels: [], pieces: joined(way.pieces, leaves && source, enters && target) });
    const bundle = bundles.get(key);
    bundle.labels.push(whole.label(arrow));
    bundle.wrong ||= whole.wrong[arrow];
    if (!(bundle.norm >= whole.norm[arrow])) bundle.norm = whole.norm[arrow];
  }
  return Array.from(bundles.values(), ({ labels, ...arrow }) => ({ ...arrow, label: labels.length === 1 ? labels[0] : `${labels.length} x, up to ${short(arrow.norm)}` }));
}

// A route that ends at a frame's edge, led on to a box in it.
function joined(pieces, source, target) {
  const led = pieces.map((piece) => [...piece]);
  if (source) {
    const [x, y] = [source.x + source.w / 2, source.y + source.h];
    const [ex, ey] = led[0];
    led[0].unshift(x, y, x, (y + ey) / 2, ex, (y + ey) / 2);
  }
  if (target) {
    const [x, y] = [target.x + target.w / 2, target.y];
    const [ex, ey] = led.at(-1).slice(-2);
    led.at(-1).push(ex, (y + ey) / 2, x, (y + ey) / 2, x, y);
  }
  return led;
}
