// Reads the blocks of the page: see columns.py, which writes them.

const KINDS = { u1: Uint8Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

export const has = (name) => document.getElementById(`data-${name}`) !== null;

export async function bytesOf(name) {
  const coded = atob(document.getElementById(`data-${name}`).textContent);
  const bytes = new Uint8Array(coded.length);
  for (let i = 0; i < coded.length; i++) bytes[i] = coded.charCodeAt(i);
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).arrayBuffer();
}

export async function columnsOf(name) {
  const buffer = await bytesOf(name);
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const aligned = (offset) => Math.ceil(offset / 8) * 8;
  let offset = aligned(4 + length);
  const table = { ...header.facts, count: 0 };
  for (const [column, [kind, size, apart]] of Object.entries(header.columns)) {
    const numbers = new KINDS[kind](size);
    const width = numbers.BYTES_PER_ELEMENT;
    const [bytes, shuffled] = [new Uint8Array(numbers.buffer), new Uint8Array(buffer, offset, numbers.byteLength)];
    for (let byte = 0, from = 0; byte < width; byte++) {
      for (let to = byte; to < bytes.length; to += width) bytes[to] = shuffled[from++];
    }
    if (apart) for (let i = apart; i < size; i++) numbers[i] += numbers[i - apart];
    offset = aligned(offset + numbers.byteLength);
    table[column] = numbers;
  }
  for (const column of header.of_decimals) {
    table[column] = decimals(...["ago", "mantissa", "exponent"].map((part) => table[`${column}_${part}`]));
  }
  const text = textsOf(header.forms, table._form, table._filled);
  // A column of texts is a function of the line.
  for (const column of header.of_texts) {
    const numbers = table[column];
    table[column] = (line) => text(numbers[line]);
    table.count = Math.max(table.count, numbers.length);
  }
  return table;
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
  const { error, bound, ratio, like } = table;
  for (let i = 0; i < error.length; i++) {
    if (Number.isNaN(error[i])) error[i] = ratio[i] === 0 ? 0 : ratio[i] * bound[i];
  }
  for (const column of ["error", "bound", "ratio", "norm"]) {
    like?.forEach((step, i) => step >= 0 && (table[column][i] = steps[column][step]));
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
  return (number) => {
    const form = formOf[number];
    return parts[form].map((part, i) => (i ? filled[starts[form] + (i - 1) * counts[form] + ranks[number]] : "") + part).join("");
  };
}
