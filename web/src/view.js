// One drawing of the graph: its boxes and arrows, an index of where they are, what follows what.
import Flatbush from "flatbush";
import { columnsOf } from "./data.js";
import { short } from "./numbers.js";

// Drawings, with the norms on their arrows: each is that of a step, or of a fold from one to another.
export async function drawingsOf(name, steps) {
  const table = await columnsOf(name);
  const { low, high, what } = table;
  const normOf = (step) => (step < 0 ? NaN : steps.norm[step]);
  table.norm = Float64Array.from(high, normOf);
  table.label = (arrow) => {
    const norms = high[arrow] < 0 ? [] : [low[arrow], high[arrow]].map((step) => short(normOf(step)));
    return [what(arrow), [...new Set(norms)].join("..")].filter(Boolean).join(" ");
  };
  return table;
}

export async function viewOf(number, steps) {
  return new View(await drawingsOf(`view${number}`, steps));
}

export class View {
  constructor(table) {
    Object.assign(this, table, { table, width: table.width[0], height: table.height[0] });
    this.boxes = this.x.length;
    this.shown = 0;
    for (let box = 0; box < this.boxes; box++) this.shown += !this.isFrame(box);
    this.arrows = this.source.length;
    this.ofNode = new Map();
    for (let box = 0; box < this.boxes; box++) {
      for (const node of this.nodesOf(box)) this.ofNode.set(node, box);
    }
    this.boxIndex = indexed(this.boxes, (box) => [
      this.x[box], this.y[box], this.x[box] + this.w[box], this.y[box] + this.h[box],
    ]);
    this.arrowIndex = indexed(this.arrows, (arrow) => this.extentOf(arrow));
    // The place of each arrow among those that reach the same box.
    this.rank = new Uint32Array(this.arrows);
    const reached = new Uint32Array(this.boxes);
    for (let arrow = 0; arrow < this.arrows; arrow++) this.rank[arrow] = reached[this.target[arrow]]++;
    this.arriving = new Float32Array(this.boxes).fill(NaN);
    for (let arrow = 0; arrow < this.arrows; arrow++) {
      const target = this.target[arrow];
      if (!(this.arriving[target] >= this.norm[arrow])) this.arriving[target] = this.norm[arrow];
    }
  }
  nodesOf(box) {
    return this.nodes.subarray(box ? this.nodes_end[box - 1] : 0, this.nodes_end[box]);
  }
  isModule(box) {
    return this.role(box) === "group";
  }
  isFrame(box) {
    return this.role(box) === "frame";
  }
  // First and last point of each piece of an arrow's route.
  piecesOf(arrow) {
    const pieces = [];
    for (let piece = arrow ? this.route_end[arrow - 1] : 0; piece < this.route_end[arrow]; piece++) {
      pieces.push([piece ? this.piece_end[piece - 1] : 0, this.piece_end[piece]]);
    }
    return pieces;
  }
  extentOf(arrow) {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [from, to] of this.piecesOf(arrow)) {
      for (let point = from; point < to; point++) {
        left = Math.min(left, this.points[2 * point]);
        top = Math.min(top, this.points[2 * point + 1]);
        right = Math.max(right, this.points[2 * point]);
        bottom = Math.max(bottom, this.points[2 * point + 1]);
      }
    }
    return [left, top, right, bottom];
  }
  // Of a frame and what is in it, the frame comes first.
  boxesIn(left, top, right, bottom) {
    return this.boxIndex ? this.boxIndex.search(left, top, right, bottom).sort((a, b) => a - b) : [];
  }
  arrowsIn(left, top, right, bottom) {
    return this.arrowIndex ? this.arrowIndex.search(left, top, right, bottom) : [];
  }
}

function indexed(count, extentOf) {
  if (!count) return null;
  const index = new Flatbush(count);
  for (let i = 0; i < count; i++) index.add(...extentOf(i));
  index.finish();
  return index;
}
