"use strict";
// The page: sliders set the problem, the trajectory runs in slices of a frame's time and is drawn as it grows.

const LIMIT = 400000; // steps at most
const FLOOR = 1e-24; // squared error at which a run ends
const ETA_GD = 0.3; // gradient descent's step, as in the notebooks
const $ = (id) => document.getElementById(id);
const controls = ["kappa", "m", "r", "rank", "eta"];
let seed = 1, frame = 0;

// Every slider runs from 0 to 1000; this is what it stands for. r can be neither below r_A nor beyond m − r_A.
const between = (low, high, x) => low * (high / low) ** (x / 1000);
const rounded = (x) => Number(x.toPrecision(x < 100 ? 2 : 3));
function problem() {
  const x = Object.fromEntries(controls.map((name) => [name, Number($(name).value)]));
  const rank = x.rank;
  const m = Math.round(rounded(between(20, 1e6, x.m)));
  const r = Math.round(between(rank, Math.min(m - rank, 1000), x.r));
  return { kappa: rank === 1 ? 1 : rounded(between(1.5, 100, x.kappa)), m, r, rank, eta: x.eta };
}

const number = (x) => (x === Infinity ? "infinite" : x >= 1e7 ? x.toExponential(1).replace("+", "") : x.toLocaleString("en", { maximumSignificantDigits: 3 }));

function start() {
  const p = problem(), sigma = spectrum(p.rank, p.kappa);
  const [P, Q] = randomAlignment(p.m, p.r, p.rank, generator(seed));
  const escapes = escapeTimes(P, sigma, p.eta);
  const run = { p, sigma, P, Q, escapes, t: 0, next: 1, burnIn: null, points: [] };
  for (const name of controls) {
    const shown = name === "eta" ? p.eta.toFixed(2) : number(p[name]);
    $(`${name}-value`).textContent = shown;
    $(name).setAttribute("aria-valuetext", shown);
  }
  $("seed").textContent = seed;
  $("summary").textContent = "";
  cancelAnimationFrame(frame);
  advance(run);
}

function record(run) {
  run.points.push([run.t, squaredError(run.Q, run.sigma), run.P.map((row, i) => row[i])]);
}

function advance(run) {
  const until = performance.now() + 14;
  if (run.t === 0) record(run);
  while (performance.now() < until && !finished(run)) {
    [run.P, run.Q] = step(run.P, run.Q, run.sigma, run.p.eta);
    run.t += 1;
    const trace = run.Q.reduce((sum, row, i) => sum + row[i], 0);
    if (run.burnIn === null && trace <= 0.5) run.burnIn = run.t;
    if (run.t >= run.next || finished(run)) {
      record(run);
      run.next = Math.max(run.t + 1, run.t * 1.02);
    }
  }
  draw(run);
  say(run);
  $("plot").dataset.done = finished(run);
  if (!finished(run)) frame = requestAnimationFrame(() => advance(run));
}

const finished = (run) => run.t >= LIMIT || squaredError(run.Q, run.sigma) < FLOOR;

// What a reader who cannot see the plot needs: spoken once the run is over.
function say(run) {
  const { p, escapes, burnIn } = run;
  const law = expectedBurnIn(p.m, p.r, p.rank, run.sigma[p.rank - 1], p.eta);
  $("escapes").textContent = escapes.map((t) => number(t)).join(", ");
  $("mean").textContent = number(law);
  $("burn-in").textContent = burnIn !== null ? number(burnIn) : finished(run) ? `beyond the ${number(LIMIT)} steps run here` : `not yet at step ${number(run.t)}`;
  const rate = Math.max(...run.sigma.map((s) => Math.abs(1 - p.eta * s * s)));
  $("decade").textContent = number(rate > 0 ? Math.LN10 / -Math.log(rate) : 1);
  if (!finished(run)) return;
  const end = run.points[run.points.length - 1];
  $("summary").textContent =
    `κ = ${p.kappa}, m = ${p.m}, r = ${p.r}, r_A = ${p.rank}, η = ${p.eta}: the last direction is predicted at step ` +
    `${number(escapes[p.rank - 1])} and ` + (burnIn === null ? "was not found" : `was found at step ${number(burnIn)}`) +
    `; the squared error at step ${number(end[0])} is ${end[1].toExponential(0)}.`;
}

// --- drawing: an SVG as wide as its place, so that its text keeps its size on a phone --------------------------

function draw(run) {
  const { p, points, escapes } = run;
  const width = Math.max(280, $("plot").clientWidth), top = 10, low = 300, gap = 26, high = 90;
  const left = 46, right = width - 16, bottom = low + gap + high;
  const last = 10 ** Math.ceil(Math.log10(Math.max(100, points[points.length - 1][0], escapes[p.rank - 1] * 1.2)));
  const x = (t) => left + (right - left) * Math.log10(Math.max(t, 0.7) / 0.7) / Math.log10(last / 0.7);
  const y = (e) => top + (low - top) * Math.min(1, Math.log10(10 / Math.max(e, 1e-300)) / 25);
  const z = (v) => bottom - high * v;
  const path = (name, list, style = "") =>
    `<path class="${name}" style="${style}" d="${list.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("")}"/>`;
  const text = (a, b, words, name = "", anchor = "middle") =>
    `<text class="${name}" x="${a.toFixed(1)}" y="${b.toFixed(1)}" text-anchor="${anchor}">${words}</text>`;
  const power = (k) => `10<tspan dy="-5" font-size="9">${String(k).replace("-", "−")}</tspan>`;
  const parts = [];
  const decades = Math.round(Math.log10(last));
  for (let k = 0; k <= decades; k++) {
    parts.push(path("grid", [[x(10 ** k), top], [x(10 ** k), low]]), path("grid", [[x(10 ** k), low + gap], [x(10 ** k), bottom]]));
    if (width > 500 || k % 2 === 0 || decades < 4) parts.push(text(x(10 ** k), bottom + 18, power(k)));
  }
  for (let k = 0; k >= -24; k -= 4) parts.push(path("grid", [[left, y(10 ** k)], [right, y(10 ** k)]]), text(left - 6, y(10 ** k) + 4, power(k), "", "end"));
  for (const v of [0, 1]) parts.push(path("grid", [[left, z(v)], [right, z(v)]]), text(left - 6, z(v) + 4, v, "", "end"));
  const hue = (l) => `stroke: var(--level-${l + 1}); fill: none`;
  escapes.forEach((t, l) => {
    parts.push(path("law", [[x(t), top], [x(t), low]], hue(l)), path("law", [[x(t), low + gap], [x(t), bottom]], hue(l)));
    parts.push(`<text class="tick" x="${x(t).toFixed(1)}" y="${low + gap / 2 + 5}" text-anchor="middle" style="fill: var(--level-${l + 1})">t<tspan dy="3" font-size="9">${l + 1}</tspan></text>`);
  });
  if (p.r > p.rank) {
    const tail = [];
    for (let t = 1; t <= last; t *= 1.3) if (gdTail(t, p.m, p.r, p.rank, ETA_GD) < 1) tail.push([x(t), y(gdTail(t, p.m, p.r, p.rank, ETA_GD) ** 2)]);
    if (tail.length) parts.push(path("gd", tail));
  }
  parts.push(path("wn", points.map(([t, e]) => [x(t), y(e)])));
  for (let l = 0; l < p.rank; l++) parts.push(path("level", points.map(([t, , P]) => [x(t), z(P[l])]), hue(l)));
  parts.push(text((left + right) / 2, bottom + 36, "iteration t"), text(left + 6, low - 8, "squared error", "", "start"));
  parts.push(text(right - 6, bottom - 8, "alignment P<tspan dy='3' font-size='9'>ℓℓ</tspan>", "", "end"));
  $("plot").innerHTML =
    `<svg width="${width}" height="${bottom + 42}" viewBox="0 0 ${width} ${bottom + 42}" aria-hidden="true" focusable="false">${parts.join("")}</svg>`;
}

for (const name of controls) $(name).addEventListener("input", start);
$("again").addEventListener("click", () => {
  seed += 1;
  start();
});
addEventListener("resize", start);
start();
