// The verdicts in the order of the data, each with a form of its own besides its colour.
import { html } from "./html.js";

export const AGREES = 0, DISAGREES = 1, INCONCLUSIVE = 2, UNJUDGED = 3;
export const WORDS = ["AGREES", "DISAGREES", "INCONCLUSIVE", "not judged"];
export const KINDS = ["agrees", "disagrees", "inconclusive", "unjudged"];
export const MARKS = ["\u2713", "\u2717", "?", "\u2013"];

export const Badge = ({ verdict }) =>
  html`<span class="badge ${KINDS[verdict]}" aria-hidden="true">${MARKS[verdict]}</span>`;

export const Verdict = ({ verdict, also = "" }) =>
  html`<span class="verdict ${KINDS[verdict]}"><${Badge} verdict=${verdict} /> ${WORDS[verdict]}${also}</span>`;
