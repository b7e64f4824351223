"use strict";
// The page: sliders set the problem, the trajectory runs in slices of a frame's time and is drawn as it grows.

const LIMIT = 400000; // steps at most
const FLOOR = 1e-24; // squared error at which a run ends
const ETA_GD = 0.3; // gradient descent's step, as in the notebooks
const $ = (id) => document.getElementById(id);

// The values a slider steps through: two significant digits, or whole numbers.
function grid(low, high, least) {
  const list = [];
  for (let x = low; x <= high; x = Number((x + Math.max(least, 10 ** (Math.floor(Math.log10(x)) - 1))).toPrecision(2))) list.push(x);
  return list;
}
const VALUES = { m: grid(4, 1e6, 1), rank: grid(1, 6, 1), r: grid(1, 1000, 1), kappa: grid(1.5, 100, 0.1) };
VALUES.eta = Array.from({ length: 38 }, (_, k) => (k + 1) / 20);
const START = { m: 200, rank: 3, r: 20, kappa: 10, eta: 1, seed: 1 };
let setting, run, frame = 0;

// r is neither below r_A nor beyond m − r_A. The slider that moves stops there; no other moves with it.
const bounds = ({ m, r, rank }) => ({ m: [r + rank, Infinity], r: [rank, m - rank], rank: [1, Math.min(r, m - r)] });
function nearest(name, value, [low, high] = [-Infinity, Infinity]) {
  const list = VALUES[name].filter((v) => low <= v && v <= high);
  return list.reduce((best, v) => (Math.abs(v - value) < Math.abs(best - value) ? v : best), list[0]);
}

// The setting in the page's address, whatever it says.
function read() {
  const asked = new URLSearchParams(location.hash.slice(1)), number = (name) => Number(asked.get(name)) || START[name];
  setting = {};
  for (const name in VALUES) {
    const within = { rank: [1, setting.m / 2], r: [setting.rank, setting.m - setting.rank] }[name];
    setting[name] = nearest(name, number(name), within);
  }
  setting.seed = Math.min(Math.max(1, Math.round(number("seed"))), 1e6);
  start();
}

const number = (x) => (x === Infinity ? "infinite" : x >= 1e7 ? x.toExponential(1).replace("+", "") : x.toLocaleString("en", { maximumSignificantDigits: 3 }));

function start() {
  const p = { ...setting, kappa: setting.rank === 1 ? 1 : setting.kappa }, sigma = spectrum(p.rank, p.kappa);
  const [P, Q] = randomAlignment(p.m, p.r, p.rank, generator(p.seed)), least = eigenvalues(P)[p.rank - 1];
  const bound = p.eta <= 1 ? burnInBound(1 / least - 1, sigma, p.eta) : null;
  run = { p, sigma, P, Q, gd: gdStart(P), rho: 1 / least - 1, bound, t: 0, next: 1, burnIn: null, points: [] };
  run.escapes = escapeTimes(P, sigma, p.eta);
  for (const name in VALUES) {
    const shown = name === "eta" ? p.eta.toFixed(2) : number(p[name]);
    $(name).max = VALUES[name].length - 1;
    $(name).value = VALUES[name].indexOf(setting[name]);
    $(name).setAttribute("aria-valuetext", shown);
    $(`${name}-value`).textContent = shown;
  }
  $("seed").textContent = p.seed;
  $("summary").textContent = "";
  history.replaceState(null, "", `#${new URLSearchParams(setting)}`);
  cancelAnimationFrame(frame);
  record();
  advance();
}

function record() {
  const { p, sigma, P, Q, gd, t } = run;
  run.points.push({ t, wn: squaredError(Q, sigma), gd: gdError(gd, sigma, p.r - p.rank), P: P.map((row, i) => row[i]) });
}

function advance() {
  const until = performance.now() + 14, { p, sigma } = run;
  while (performance.now() < until && !finished()) {
    [run.P, run.Q] = step(run.P, run.Q, sigma, p.eta);
    run.gd = gdStep(run.gd, sigma, ETA_GD);
    run.t += 1;
    const trace = run.Q.reduce((sum, row, i) => sum + row[i], 0);
    if (run.burnIn === null && trace <= 0.5) run.burnIn = run.t;
    if (run.t >= run.next || finished()) {
      record();
      run.next = Math.max(run.t + 1, run.t * 1.02);
    }
  }
  draw();
  say();
  $("plot").dataset.done = finished();
  if (!finished()) frame = requestAnimationFrame(advance);
}

const finished = () => run.t >= LIMIT || squaredError(run.Q, run.sigma) < FLOOR;

// What a reader who cannot see the plot needs: spoken once the run is over.
function say() {
  const { p, sigma, escapes, burnIn, bound } = run, end = run.points[run.points.length - 1];
  $("escapes").textContent = escapes.map(number).join(", ");
  $("mean").textContent = number(expectedBurnIn(p.m, p.r, p.rank, sigma[p.rank - 1], p.eta));
  $("burn-in").textContent = burnIn !== null ? number(burnIn) : finished() ? `beyond the ${number(LIMIT)} steps run here` : `not yet at step ${number(run.t)}`;
  $("bound").textContent = bound === null ? "none for η > 1" : number(Math.ceil(bound));
  const rate = Math.max(...sigma.map((s) => Math.abs(1 - p.eta * s * s)));
  $("decade").textContent = number(rate > 0 ? Math.LN10 / -Math.log(rate) : 1);
  if (!finished()) return;
  $("summary").textContent =
    `κ = ${p.kappa}, m = ${p.m}, r = ${p.r}, r_A = ${p.rank}, η = ${p.eta}: the last direction is predicted at step ` +
    `${number(escapes[p.rank - 1])} and ` + (burnIn === null ? "was not found" : `was found at step ${number(burnIn)}`) +
    `; the squared error at step ${number(end.t)} is ${end.wn.toExponential(0)}, gradient descent's ${end.gd.toExponential(0)}.`;
}

// --- drawing: an SVG as wide as its place, so that its text keeps its size on a phone --------------------------

function draw() {
  const { p, sigma, points, escapes, rho, bound } = run;
  const width = Math.max(280, $("plot").clientWidth), top = 10, low = 300, gap = 26, high = 90;
  const left = 46, right = width - 16, bottom = low + gap + high;
  const last = 10 ** Math.ceil(Math.log10(Math.max(100, run.t, 1.2 * escapes[p.rank - 1], 1.2 * bound)));
  const x = (t) => left + (right - left) * Math.log10(Math.max(t, 0.7) / 0.7) / Math.log10(last / 0.7);
  const y = (e) => top + (low - top) * Math.min(1, Math.max(0, (3 - Math.log10(Math.max(e, 1e-300))) / 27));
  const z = (v) => bottom - high * v;
  const path = (name, list) => `<path class="${name}" d="${list.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("")}"/>`;
  const text = (a, b, words, name = "", anchor = "middle") => `<text class="${name}" x="${a.toFixed(1)}" y="${b.toFixed(1)}" text-anchor="${anchor}">${words}</text>`;
  const small = (words, dy) => `<tspan dy="${dy}" font-size="9">${words}</tspan>`;
  const power = (k) => `10${small(String(k).replace("-", "−"), -5)}`;
  const both = (name, t) => parts.push(path(name, [[x(t), top], [x(t), low]]), path(name, [[x(t), low + gap], [x(t), bottom]]));
  const times = Array.from({ length: 200 }, (_, k) => 0.7 * (last / 0.7) ** (k / 199));
  const parts = [], decades = Math.round(Math.log10(last));
  for (let k = 0; k <= decades; k++) {
    both("grid", 10 ** k);
    if (width > 500 || k % 2 === 0 || decades < 4) parts.push(text(x(10 ** k), bottom + 18, power(k)));
  }
  for (let k = 0; k >= -24; k -= 4) parts.push(path("grid", [[left, y(10 ** k)], [right, y(10 ** k)]]), text(left - 6, y(10 ** k) + 4, power(k), "", "end"));
  for (const v of [0, 1]) parts.push(path("grid", [[left, z(v)], [right, z(v)]]), text(left - 6, z(v) + 4, v, "", "end"));
  escapes.forEach((t, l) => {
    both(`escape level-${l + 1}`, t);
    parts.push(text(x(t), low + gap / 2 + 5, `t${small(l + 1, 3)}`, `level-${l + 1}`));
  });
  parts.push(path("gd", points.map((at) => [x(at.t), y(at.gd)])), path("wn", points.map((at) => [x(at.t), y(at.wn)])));
  for (let l = 0; l < p.rank; l++) parts.push(path(`level level-${l + 1}`, points.map((at) => [x(at.t), z(at.P[l])])));
  const tail = p.r > p.rank ? times.map((t) => [t, gdTail(t, p.m, p.r, p.rank, ETA_GD) ** 2]).filter(([, e]) => e < 1) : [];
  if (tail.length) parts.push(path("theory", tail.map(([t, e]) => [x(t), y(e)])));
  if (bound !== null) parts.push(path("theory", times.map((t) => [x(t), z(1 / (1 + tangentBound(t, rho, sigma, p.eta)))])));
  parts.push(text((left + right) / 2, bottom + 36, "iteration t"), text(left + 6, low - 8, "squared error", "", "start"));
  if (width > 500) parts.push(text(right - 6, bottom - 8, `alignment P${small("ℓℓ", 3)}`, "", "end"));
  $("plot").innerHTML =
    `<svg width="${width}" height="${bottom + 42}" viewBox="0 0 ${width} ${bottom + 42}" aria-hidden="true" focusable="false">${parts.join("")}</svg>`;
}

for (const name in VALUES)
  $(name).addEventListener("input", () => {
    const value = VALUES[name][$(name).value];
    setting[name] = nearest(name, value, bounds(setting)[name]);
    start();
  });
$("again").addEventListener("click", () => {
  setting.seed += 1;
  start();
});
addEventListener("resize", draw);
addEventListener("hashchange", read);
read();
