/*
 * The one style sheet of all pages. Colours are variables, which a theme may set (docs/pages.md); each pair of text and
 * ground has a contrast of at least 4.5 (WCAG 2.2, 1.4.3), borders of fields one of 3. It says how parts look, by the
 * element or by one class: see the other files here for what makes them.
 */

const css = `
:root {
  color-scheme: light dark;
  --ground: #f4f4f2;
  --card: #fff;
  --text: #1c1c1a;
  --quiet: #5a5a55;
  --line: #dededa;
  --field-line: #84847d;
  --accent: #1d4f8f;
  --on-accent: #fff;
  --accent-strong: #153d70;
  --error: #b3261e;
  --error-ground: #fdf0ef;
  --good: #1b6b3a;
  --good-ground: #eef7f0;
  --radius: .625rem;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #161615;
    --card: #20201e;
    --text: #eeeeea;
    --quiet: #b0b0a8;
    --line: #383835;
    --field-line: #8d8d86;
    --accent: #9cc3f5;
    --on-accent: #10233a;
    --accent-strong: #c2dbfa;
    --error: #ffb4ab;
    --error-ground: #3a2220;
    --good: #9ed8ae;
    --good-ground: #1d3024;
  }
}
[hidden] { display: none !important; }
*, ::before, ::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0;
  min-height: 100vh;
  min-height: 100dvh;
  display: flex;
  flex-direction: column;
  align-items: center;
  padding: clamp(1rem, 8vh, 5rem) 1rem 2rem;
  background: var(--ground);
  color: var(--text);
  font: 1rem/1.55 var(--font);
}
:lang(ko) { word-break: keep-all; overflow-wrap: anywhere; }
header, main { width: 100%; max-width: 27rem; }
.wide > :is(header, main) { max-width: 44rem; }
header {
  display: flex;
  align-items: center;
  gap: .5rem;
  margin-bottom: .875rem;
  padding: 0 .25rem;
  color: var(--quiet);
  font-size: .9375rem;
  overflow-wrap: anywhere;
}
header svg { flex: none; width: 1.25rem; height: 1.25rem; fill: var(--accent); }
header img { flex: none; height: 2rem; max-width: 12rem; }
main {
  padding: clamp(1.25rem, 6vw, 2rem);
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: calc(var(--radius) * 1.4);
  box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 8px 24px rgb(0 0 0 / .05);
}
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em; text-wrap: balance; }
h2 { margin: 0 0 .5rem; font-size: 1.0625rem; line-height: 1.35; }
p { margin: 0 0 1rem; text-wrap: pretty; }
:is(main, form, section) > :last-child { margin-bottom: 0; }
.what {
  padding: .625rem .875rem;
  border-radius: var(--radius);
  background: var(--ground);
  font-weight: 600;
  overflow-wrap: anywhere;
}
.quiet { color: var(--quiet); font-size: .9375rem; }
section { margin-top: 1.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
form { margin: 1.25rem 0 0; }
form:not([hidden]) + .without { display: none; }
.without + .quiet { margin-top: 1rem; }
.list form, .row form { margin: 0; }
.field { margin: 0 0 1.25rem; }
label { display: block; margin-bottom: .25rem; font-weight: 600; }
.hint, .wrong { margin: 0 0 .375rem; font-size: .9375rem; }
.hint { color: var(--quiet); }
.wrong { color: var(--error); font-weight: 600; }
input:not([type=hidden], [type=checkbox], [type=radio]), select {
  display: block;
  width: 100%;
  min-height: 2.75rem;
  padding: .5rem .75rem;
  border: 1px solid var(--field-line);
  border-radius: var(--radius);
  background: var(--card);
  color: inherit;
  font: inherit;
}
input[aria-invalid] { border-color: var(--error); border-width: 2px; }
input.code { max-width: 15ch; letter-spacing: .12em; font-variant-numeric: tabular-nums; }
button, .button {
  display: block;
  width: 100%;
  min-height: 2.75rem;
  padding: .625rem 1rem;
  border: 1px solid transparent;
  border-radius: var(--radius);
  background: var(--accent);
  color: var(--on-accent);
  font: inherit;
  font-weight: 600;
  text-align: center;
  text-decoration: none;
  cursor: pointer;
}
button:hover, .button:hover { background: var(--accent-strong); }
.plain { border-color: var(--field-line); background: none; color: var(--text); }
.plain:hover { background: var(--ground); }
.plain.danger { border-color: var(--error); color: var(--error); }
.plain.danger:hover { background: var(--error-ground); }
:is(form, .button, .row, .list) + :is(.quiet, .button, form, .row, details, noscript) { margin-top: 1rem; }
noscript { display: block; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9rem, 100%), 1fr)); gap: .75rem; }
.row > * { margin: 0; }
.or { display: flex; align-items: center; gap: .75rem; margin: 1.25rem 0; color: var(--quiet); font-size: .9375rem; }
.or::before, .or::after { content: ""; flex: 1; border-top: 1px solid var(--line); }
.list { margin: 0 0 1rem; padding: 0; list-style: none; }
.list > li {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  justify-content: space-between;
  gap: .5rem 1rem;
  padding: .75rem 0;
  border-top: 1px solid var(--line);
}
.list > li:first-child { border-top: 0; padding-top: 0; }
.list > li > :first-child { flex: 1 1 12rem; min-width: 0; overflow-wrap: anywhere; }
.list .list { flex: 1 0 100%; margin: 0; padding-left: 1rem; border-left: 2px solid var(--line); }
.list p { margin: 0; }
.list :is(button, .button) { width: auto; min-height: 2.25rem; padding: .25rem .875rem; }
.checks { margin: 0 0 1rem; padding: 0; list-style: none; }
.checks > li { position: relative; padding: .25rem 0 .25rem 1.75rem; }
.checks > li::before { content: "✓"; position: absolute; left: .25rem; color: var(--accent); font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .375rem 1rem; margin: 0 0 1rem; }
dt { color: var(--quiet); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 0 0 1.25rem; padding-bottom: .75rem; border-bottom: 1px solid var(--line); }
nav a { min-height: 1.5rem; text-decoration: none; }
nav a:hover { text-decoration: underline; }
nav a[aria-current] { color: var(--text); font-weight: 600; }
details { margin: 0 0 1rem; }
summary { cursor: pointer; min-height: 1.5rem; color: var(--accent); }
details[open] > summary { margin-bottom: .5rem; }
code, .codes { font: .9375rem/1.6 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.qr { display: block; width: 12rem; max-width: 100%; height: auto; margin: 0 auto 1rem; border-radius: var(--radius); }
.notice { padding: .625rem .875rem; border-radius: var(--radius); background: var(--good-ground); color: var(--good); font-weight: 600; }
.tag { display: inline-block; padding: 0 .5rem; border: 1px solid var(--line); border-radius: 1rem; color: var(--quiet); font-size: .875rem; }
a { color: var(--accent); text-underline-offset: .15em; }
p > a { display: inline-block; min-height: 1.5rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.summary {
  margin: 0 0 1.25rem;
  padding: .75rem 1rem;
  border: 2px solid var(--error);
  border-radius: var(--radius);
  background: var(--error-ground);
}
h1 + .summary { margin-top: 1rem; }
.summary h2 { margin-bottom: .25rem; font-size: 1rem; color: var(--error); }
.summary p { margin: 0; }
.summary a { color: inherit; }
@media (max-width: 22rem) {
  body { padding: .75rem .75rem 1.5rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media (prefers-contrast: more) {
  :root { --quiet: var(--text); --line: currentcolor; --field-line: currentcolor; }
}
`

/** Without the white space that only people need. */
export const style: string = css
  .replace(/\s*\n\s*/g, '')
  .replace(/\s*([{}:;,])\s+/g, '$1')
  .trim()
