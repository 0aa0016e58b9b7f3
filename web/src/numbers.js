// Numbers as short text, as `judging/numbers.py` writes them.

export const digitsRight = (digits) => (digits === Infinity ? "all" : short(Math.max(digits.toFixed(2), 0), 2));

export function short(number, digits = 3) {
  if (Number.isNaN(number)) return "-";
  if (!Number.isFinite(number)) return number > 0 ? "inf" : "-inf";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e-3 && size < 1e5) {
    return size < 10 ** digits ? String(Number(number.toPrecision(digits))) : number.toFixed(0);
  }
  return number.toExponential(digits - 1).replace(/e([+-])(\d)$/, "e$10$2");
}
