// Bundles the script, the style sheet and the licences of what is in them, next to their writer.
import { build } from "esbuild";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "../src/gradwitness/report/page");
await mkdir(target, { recursive: true });

const options = { absWorkingDir: here, bundle: true, minify: true, legalComments: "none" };
const script = await build({
  ...options,
  entryPoints: ["src/main.js"],
  outfile: join(target, "page.js"),
  target: "es2022",
  format: "iife",
  metafile: true,
});
await build({ ...options, entryPoints: ["src/page.css"], outfile: join(target, "page.css") });

const used = Object.keys(script.metafile.inputs).map((path) => path.match(/^node_modules\/([^/]+)/)?.[1]);
const licences = [];
for (const name of [...new Set(used.filter(Boolean))].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf-8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const text = await readFile(join(folder, file), "utf-8");
  licences.push(`${name} ${version} (${license})\n\n${text.replaceAll("\r\n", "\n").trim()}\n`);
}
await writeFile(join(target, "page.licences.txt"), licences.join(`\n${"-".repeat(72)}\n\n`));
