// A table of any length: only the lines that can be seen are elements.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "./html.js";

const LINE = 28, AROUND = 8, ROOM = 480;

export function Table({ label, columns, lines, order, onOrder, selected, onPick }) {
  const body = useRef(null);
  const [top, setTop] = useState(0);
  const first = Math.max(0, Math.floor(top / LINE) - AROUND);
  const last = Math.min(lines.length, first + Math.ceil(ROOM / LINE) + 2 * AROUND);
  const at = lines.indexOf(selected);

  useEffect(() => {
    const seen = body.current;
    if (at < 0 || (at * LINE >= seen.scrollTop && (at + 1) * LINE <= seen.scrollTop + seen.clientHeight)) return;
    seen.scrollTop = Math.max(0, at * LINE - seen.clientHeight / 2);
  }, [selected, at]);

  const step = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !lines.length) return;
    event.preventDefault();
    onPick(lines[Math.min(Math.max((at < 0 ? -1 : at) + by, 0), lines.length - 1)]);
  };
  const widths = columns.map((column) => column.width ?? "minmax(5rem, 1fr)").join(" ");

  return html`<div class="table" role="table" aria-label=${label} aria-rowcount=${lines.length + 1}>
    <div class="lines" ref=${body} tabindex="0" style=${{ height: `${Math.min(ROOM, (lines.length + 1) * LINE + 18)}px` }} onKeyDown=${step} onScroll=${(e) => setTop(e.target.scrollTop)}>
      <div class="line head" role="row" style=${{ gridTemplateColumns: widths }}>
        ${columns.map((column, number) => html`<div role="columnheader" key=${column.title}
          aria-sort=${order.column === number ? (order.down ? "descending" : "ascending") : "none"}>
          <button onClick=${() => onOrder(number)}>${column.title}<span aria-hidden="true">${order.column === number ? (order.down ? " \u25be" : " \u25b4") : ""}</span></button>
        </div>`)}
      </div>
      <div class="all" role="rowgroup" style=${{ height: `${lines.length * LINE}px` }}>
        ${Array.from({ length: Math.max(0, last - first) }, (_, i) => {
          const line = lines[first + i];
          return html`<div class="line" role="row" key=${line} aria-rowindex=${first + i + 2}
            aria-selected=${line === selected} onClick=${() => onPick(line)}
            style=${{ gridTemplateColumns: widths, top: `${(first + i) * LINE}px` }}>
            ${columns.map((column) => html`<div role="cell" class=${column.kind ?? ""} title=${column.tip?.(line)}><bdi>${column.show(line)}</bdi></div>`)}
          </div>`;
        })}
      </div>
    </div>
  </div>`;
}

// The lines in the order of a column: figures by size, with those that are none last; texts by text.
export function ordered(lines, columns, { column, down }) {
  if (column === null) return lines;
  const { raw } = columns[column];
  const keyed = lines.map((line) => [raw(line), line]);
  const sign = down ? -1 : 1;
  keyed.sort(([a, lineA], [b, lineB]) => {
    if (typeof a === "number") {
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || lineA - lineB;
      return sign * (a < b ? -1 : a > b ? 1 : 0) || lineA - lineB;
    }
    return sign * (a < b ? -1 : a > b ? 1 : 0) || lineA - lineB;
  });
  return keyed.map(([, line]) => line);
}
