// Formulas as the report writes them (x3 = x2 W1^T + b1), typeset as MathML.
// Elements are made, never parsed: a name cannot become markup.
import { html } from "./html.js";

const TOKEN = /\s*(?:([A-Za-z_][\w.]*)|(\d+(?:\.\d+)?(?:e[+-]?\d+)?)|([<>=!+]=|[-+*/^(),=<>[\]@]))/y;
const SIGNS = { "*": "\u22c5", "-": "\u2212", ">=": "\u2265", "<=": "\u2264", "==": "=", "!=": "\u2260", "@": "\u2062" };
const GREEK = {
  alpha: "\u03b1", beta: "\u03b2", gamma: "\u03b3", delta: "\u03b4", eps: "\u03b5",
  lambd: "\u03bb", lamda: "\u03bb", mu: "\u03bc", pi: "\u03c0", sigma: "\u03c3",
};
const LONGEST = 400;

function tokens(text) {
  const list = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const before = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (!match) return null;
    const spaced = /\s/.test(text[before] ?? "");
    if (match[1]) list.push({ kind: "name", text: match[1], spaced });
    else if (match[2]) list.push({ kind: "number", text: match[2], spaced });
    else list.push({ kind: "sign", text: match[3], spaced });
  }
  return list;
}

function identifier(text) {
  const [, gradient, letters, digits] = text.match(/^(d(?=[A-Za-z]\d*$))?([A-Za-z]+?)(\d*)$/) ?? [null, null, text, ""];
  const base = html`<mi>${GREEK[letters] ?? letters}</mi>`;
  const symbol = digits && letters.length === 1 ? html`<msub>${base}<mn>${digits}</mn></msub>`
    : html`<mi>${(GREEK[letters] ?? letters) + digits}</mi>`;
  return gradient ? html`<mrow><mi mathvariant="normal">d</mi>${symbol}</mrow>` : symbol;
}

class Reader {
  constructor(list) {
    this.list = list;
    this.at = 0;
  }
  sign(text) {
    const token = this.list[this.at];
    return token?.kind === "sign" && (text === undefined || token.text === text);
  }
  row(closing) {
    const parts = [];
    let afterOperand = false;
    while (this.at < this.list.length && !this.sign(closing ?? "")) {
      const token = this.list[this.at];
      if (token.kind === "sign" && !"([".includes(token.text)) {
        this.at++;
        parts.push(html`<mo>${SIGNS[token.text] ?? token.text}</mo>`);
        afterOperand = false;
        continue;
      }
      if (afterOperand) parts.push(html`<mspace width="0.25em" />`);
      parts.push(this.power());
      afterOperand = true;
    }
    return html`<mrow>${parts}</mrow>`;
  }
  power() {
    let base = this.atom();
    while (this.sign("^")) {
      this.at++;
      const token = this.list[this.at];
      const exponent = token?.kind === "name" && token.text === "T" ? (this.at++, html`<mi mathvariant="normal">T</mi>`)
        : this.sign("-") ? (this.at++, html`<mrow><mo>${SIGNS["-"]}</mo>${this.atom()}</mrow>`) : this.atom();
      base = html`<msup>${base}${exponent}</msup>`;
    }
    return base;
  }
  atom() {
    const token = this.list[this.at++];
    if (!token) return html`<mrow />`;
    if (token.kind === "number") return html`<mn>${token.text}</mn>`;
    if (token.kind === "name") {
      if (token.text === "sqrt" && this.sign("(")) {
        this.at++;
        const inside = this.row(")");
        this.at++;
        return html`<msqrt>${inside}</msqrt>`;
      }
      const name = identifier(token.text);
      if (!this.sign("(") || this.list[this.at].spaced) return name;
      return html`<mrow>${name}${this.atom()}</mrow>`;
    }
    if (!"([".includes(token.text)) return html`<mo>${SIGNS[token.text] ?? token.text}</mo>`;
    const closing = token.text === "(" ? ")" : "]";
    const inside = this.row(closing);
    this.at++;
    return html`<mrow><mo>${token.text}</mo>${inside}<mo>${closing}</mo></mrow>`;
  }
}

export function Formula({ text }) {
  const list = text.length > LONGEST ? null : tokens(text);
  if (!list) return html`<code class="formula">${text}</code>`;
  return html`<math class="formula" aria-label=${text} title=${text}>${new Reader(list).row()}</math>`;
}
