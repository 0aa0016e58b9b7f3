// Light or dark: as the system has it, until someone chooses.
import { useEffect, useState } from "preact/hooks";
import { html } from "./html.js";

export function useTheme(onTurn) {
  const [dark, setDark] = useState(null);
  useEffect(() => {
    document.documentElement.style.colorScheme = dark === null ? "" : dark ? "dark" : "light";
    onTurn?.();
  }, [dark]);
  const isDark = dark ?? matchMedia("(prefers-color-scheme: dark)").matches;
  return [isDark, html`<button id="theme" class="theme" onClick=${() => setDark(!isDark)}>${isDark ? "Light" : "Dark"}</button>`];
}
