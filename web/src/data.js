// Reads the blocks of the page: see columns.py, which writes them.

const KINDS = { u1: Uint8Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

export const has = (name) => document.getElementById(`data-${name}`) !== null;

export const bytesOf = (name) => unpacked(document.getElementById(`data-${name}`).textContent);

export async function unpacked(block) {
  const coded = atob(block);
  const bytes = new Uint8Array(coded.length);
  for (let i = 0; i < coded.length; i++) bytes[i] = coded.charCodeAt(i);
  const content = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(content).arrayBuffer();
}

// A property that is worked out when it is first asked for.
function lazily(table, name, make) {
  const settle = (value) => Object.defineProperty(table, name, { value, enumerable: true, configurable: true });
  Object.defineProperty(table, name, { get: () => settle(make())[name], enumerable: true, configurable: true });
}

export async function columnsOf(name) {
  const buffer = await bytesOf(name);
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const aligned = (offset) => Math.ceil(offset / 8) * 8;
  let end = aligned(4 + length);
  const table = { ...header.facts, count: 0 };
  const numbers = {};
  for (const [column, [kind, size, apart]] of Object.entries(header.columns)) {
    const [offset, Numbers] = [end, KINDS[kind]];
    lazily(numbers, column, () => numbersOf(new Uint8Array(buffer, offset, size * Numbers.BYTES_PER_ELEMENT), new Numbers(size), apart));
    end = aligned(offset + size * Numbers.BYTES_PER_ELEMENT);
    lazily(table, column, () => numbers[column]);
  }
  for (const column of header.of_decimals) {
    lazily(table, column, () => decimals(...["ago", "mantissa", "exponent"].map((part) => numbers[`${column}_${part}`])));
  }
  let text;
  // A column of texts is a function of the line.
  for (const column of header.of_texts) {
    table.count = Math.max(table.count, header.columns[column][1]);
    lazily(table, column, () => {
      text ??= textsOf(header.forms, numbers._form, numbers._filled);
      return (line) => text(numbers[column][line]);
    });
  }
  return table;
}

function numbersOf(shuffled, numbers, apart) {
  const [bytes, width] = [new Uint8Array(numbers.buffer), numbers.BYTES_PER_ELEMENT];
  for (let byte = 0, from = 0; byte < width; byte++) {
    for (let to = byte; to < bytes.length; to += width) bytes[to] = shuffled[from++];
  }
  if (apart) for (let i = apart; i < numbers.length; i++) numbers[i] += numbers[i - apart];
  return numbers;
}

const POWERS = Float64Array.from({ length: 309 }, (_, n) => Number(`1e${n}`));
const INFINITE = 999, NAN = -999;

// Figures: all new ones, or each as it stood so many new ones ago, if it is not new.
function decimals(ago, mantissas, exponents) {
  const known = Float64Array.from(mantissas, (mantissa, i) => {
    const exponent = exponents[i];
    if (exponent === NAN) return NaN;
    if (exponent === INFINITE) return mantissa * Infinity;
    if (exponent < -308) return mantissa / POWERS[-exponent - 308] / POWERS[308];
    return exponent < 0 ? mantissa / POWERS[-exponent] : mantissa * POWERS[exponent];
  });
  let seen = 0;
  return ago.length ? Float64Array.from(ago, (back) => known[back ? seen - back : seen++]) : known;
}

// A table of comparisons. An error that is not told is the bound times its ratio; some lines have
// the figures of a step.
export async function comparisonsOf(name, steps = null) {
  const table = await columnsOf(name);
  for (const column of ["bound", "ratio", "norm", "error"]) {
    const { get } = Object.getOwnPropertyDescriptor(table, column);
    lazily(table, column, () => get().map((figure, i) => {
      if (steps && table.like[i] >= 0) return steps[column][table.like[i]];
      if (column !== "error" || !Number.isNaN(figure)) return figure;
      return table.ratio[i] === 0 ? 0 : table.ratio[i] * table.bound[i];
    }));
  }
  return table;
}

// The texts of a table: forms, filled in with numbers.
function textsOf(forms, formOf, filled) {
  const parts = forms.map((form) => form.split("\0"));
  const counts = new Uint32Array(forms.length);
  const ranks = formOf.map((form) => counts[form]++);
  let sum = 0;
  const starts = parts.map((each, form) => (sum += (each.length - 1) * counts[form]) - (each.length - 1) * counts[form]);
  const known = [];
  return (number) => (known[number] ??= parts[formOf[number]].map((part, i) => {
    const form = formOf[number];
    return (i ? filled[starts[form] + (i - 1) * counts[form] + ranks[number]] : "") + part;
  }).join(""));
}
