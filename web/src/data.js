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
  const text = textsOf(header.forms, table._form, table._filled);
  // A column of texts is a function of the line.
  for (const column of header.of_texts) {
    const numbers = table[column];
    table[column] = (line) => text(numbers[line]);
    table.count = Math.max(table.count, numbers.length);
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
