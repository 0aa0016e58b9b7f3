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
  for (const [column, [kind, size]] of Object.entries(header.columns)) {
    const numbers = new KINDS[kind](buffer, offset, size);
    offset = aligned(offset + numbers.byteLength);
    table[column] = numbers;
  }
  // A column of texts is a function of the line.
  for (const column of header.of_texts) {
    const numbers = table[column];
    table[column] = (line) => header.texts[numbers[line]];
    table.count = Math.max(table.count, numbers.length);
  }
  return table;
}
