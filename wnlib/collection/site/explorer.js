"use strict";
// The exact reduction of wnlib.laws in plain JavaScript: weight normalization in population at μ = 2, whatever m is.
// P = UᵀXXᵀU and Q = I − P are r_A×r_A matrices, here arrays of rows.

const size = (A) => A.length;
function fill(n, f) {
  const A = [];
  for (let i = 0; i < n; i++) {
    A.push([]);
    for (let j = 0; j < n; j++) A[i].push(f(i, j));
  }
  return A;
}
const transpose = (A) => fill(size(A), (i, j) => A[j][i]);
const symmetric = (A) => fill(size(A), (i, j) => (A[i][j] + A[j][i]) / 2);
function product(A, B) {
  const n = size(A), C = [];
  for (let i = 0; i < n; i++) {
    C.push(new Array(n).fill(0));
    for (let k = 0; k < n; k++) for (let j = 0; j < n; j++) C[i][j] += A[i][k] * B[k][j];
  }
  return C;
}
const onePlus = (s, A) => fill(size(A), (i, j) => (i === j ? 1 : 0) + s * A[i][j]); // I + sA

// X with A X = B, by Gaussian elimination with row pivoting.
function solve(A, B) {
  const n = size(A), rows = A.map((row, i) => row.concat(B[i]));
  for (let k = 0; k < n; k++) {
    let p = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(rows[i][k]) > Math.abs(rows[p][k])) p = i;
    [rows[k], rows[p]] = [rows[p], rows[k]];
    for (let i = k + 1; i < n; i++) {
      const f = rows[i][k] / rows[k][k];
      for (let j = k; j < 2 * n; j++) rows[i][j] -= f * rows[k][j];
    }
  }
  for (let k = n - 1; k >= 0; k--)
    for (let j = n; j < 2 * n; j++) {
      for (let i = k + 1; i < n; i++) rows[k][j] -= rows[k][i] * rows[i][j];
      rows[k][j] /= rows[k][k];
    }
  return rows.map((row) => row.slice(n));
}

// laws.reduced_step: (P₊, Q₊).
function step(P, Q, sigma, eta) {
  const scaled = (A) => fill(size(A), (i, j) => sigma[i] * A[i][j] * sigma[j]);
  const C = scaled(P);
  const half = (A, B) => transpose(solve(transpose(onePlus(eta ** 2, product(B, A))), transpose(A)));
  const left = onePlus(eta, product(Q, C)), right = onePlus(-eta, product(P, C));
  const around = (L, H) => symmetric(product(product(L, H), transpose(L)));
  return [
    around(left, half(P, product(product(C, Q), C))),
    around(right, half(Q, product(product(C, P), C))),
  ];
}

// laws.reduced_error: ‖XΘXᵀ − A‖_F² = 2 tr(ΣQΣ) − tr(ΣQΣQ).
function squaredError(Q, sigma) {
  let sum = 0;
  for (let i = 0; i < size(Q); i++) {
    sum += 2 * sigma[i] ** 2 * Q[i][i];
    for (let j = 0; j < size(Q); j++) sum -= sigma[i] * Q[i][j] * sigma[j] * Q[j][i];
  }
  return sum;
}

function cholesky(A) {
  const L = fill(size(A), () => 0);
  for (let i = 0; i < size(A); i++)
    for (let j = 0; j <= i; j++) {
      let s = A[i][j];
      for (let k = 0; k < j; k++) s -= L[i][k] * L[j][k];
      L[i][j] = i === j ? Math.sqrt(s) : s / L[j][j];
    }
  return L;
}

// Eigenvalues of a symmetric matrix, largest first, by Jacobi's rotations.
function eigenvalues(A) {
  const M = A.map((row) => row.slice()), n = size(M);
  for (let sweep = 0; sweep < 12; sweep++)
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (M[p][q] === 0) continue;
        const w = (M[q][q] - M[p][p]) / (2 * M[p][q]);
        const t = (w < 0 ? -1 : 1) / (Math.abs(w) + Math.hypot(w, 1)), c = 1 / Math.hypot(t, 1), s = t * c;
        for (const row of M) [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
        for (let k = 0; k < n; k++) [M[p][k], M[q][k]] = [c * M[p][k] - s * M[q][k], s * M[p][k] + c * M[q][k]];
      }
  return M.map((row, i) => row[i]).sort((a, b) => b - a);
}

// laws.escape_times: t_ℓ = 1/(2η λ_ℓ(ΣP_0Σ)).
const escapeTimes = (P, sigma, eta) =>
  eigenvalues(fill(size(P), (i, j) => sigma[i] * P[i][j] * sigma[j])).map((c) => 1 / (2 * eta * c));

// Gradient descent in population from Y_0 = X_0, exact. In columns of which the first r_A span range(X_0ᵀU): F = UᵀY and
// K = YᵀY − FᵀF there, r_A×r_A; each of the r − r_A others is orthogonal to the rest and keeps a squared length s.
function gdStart(P) {
  const F = cholesky(P);
  return { F, K: onePlus(-1, product(transpose(F), F)), s: 1 };
}
function gdStep({ F, K, s }, sigma, eta) {
  const G = product(transpose(F), F), H = fill(size(F), (i, j) => (i === j ? 1 : 0) - eta * (G[i][j] + K[i][j]));
  const moved = product(F, H);
  return {
    F: fill(size(F), (i, j) => moved[i][j] + eta * sigma[i] * F[i][j]),
    K: symmetric(product(product(H, K), H)),
    s: s * (1 - eta * s) ** 2,
  };
}

// ‖YYᵀ − A‖_F² = ‖FFᵀ − Σ‖² + 2 tr(FᵀFK) + tr(K²) + (r − r_A)s².
function gdError({ F, K, s }, sigma, spare) {
  const inside = product(F, transpose(F)), G = product(transpose(F), F);
  let sum = spare * s ** 2;
  for (let i = 0; i < size(F); i++)
    for (let j = 0; j < size(F); j++)
      sum += (inside[i][j] - (i === j ? sigma[i] : 0)) ** 2 + 2 * G[i][j] * K[i][j] + K[i][j] ** 2;
  return sum;
}

// laws.gd_tail: gradient descent's ‖YYᵀ − A‖_F at step t, r > r_A.
const gdTail = (t, m, r, rank, eta) => Math.sqrt(Math.min(r, m) - rank) / (2 * eta * t);

// laws.escape_law(…).mean(): the mean of the last escape time.
const expectedBurnIn = (m, r, rank, sigma, eta) =>
  r > rank + 1 ? (m - rank - 1) / (2 * eta * sigma ** 2 * (r - rank - 1)) : Infinity;

// laws.burn_in_bound and laws.tangent_bound, for η ≤ 1: no angle between U and range(X) is above 45° after the former,
// and R = P⁻¹ − I is at most the latter, the w with w + ln w = ρ_0 + ln ρ_0 − fall·t.
function fall(sigma, eta) {
  const x = eta * Math.min(...sigma) ** 2, y = x / (1 + x / 4);
  return 2 * y * (1 - y / 16);
}
const burnInBound = (rho, sigma, eta) => Math.max(rho + Math.log(rho) - 1, 0) / fall(sigma, eta);
function tangentBound(t, rho, sigma, eta) {
  const z = rho + Math.log(rho) - fall(sigma, eta) * t;
  let w = z > 1 ? z : Math.exp(z);
  if (z > -30) for (let k = 0; k < 8; k++) w *= (1 + z - Math.log(w)) / (1 + w); // Newton's
  return w;
}

// problems.spectrum, geometric.
const spectrum = (rank, kappa) => Array.from({ length: rank }, (_, i) => (rank === 1 ? 1 : kappa ** (-i / (rank - 1))));

// Uniform numbers in (0, 1) from a seed (mulberry32), normals from them (Box–Muller), χ² (Marsaglia–Tsang).
function generator(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (((z ^ (z >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const gamma = (shape) => {
    if (shape < 1) return gamma(shape + 1) * uniform() ** (1 / shape);
    const d = shape - 1 / 3, c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = normal(), v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(uniform()) < x * x / 2 + d - d * v + d * Math.log(v)) return d * v;
    }
  };
  return { uniform, normal, chiSquare: (degrees) => 2 * gamma(degrees / 2) };
}

// laws.random_alignment: (P_0, Q_0), matrix-variate Beta(r/2, (m − r)/2) from two Wishart matrices. Its law is
// invariant under rotations, so the Cholesky root of their sum serves as well as the symmetric one.
function randomAlignment(m, r, rank, random) {
  const wishart = (degrees) => {
    const L = fill(rank, (i, j) => (i > j ? random.normal() : i === j ? Math.sqrt(random.chiSquare(degrees - i)) : 0));
    return product(L, transpose(L));
  };
  const W = wishart(r), V = wishart(m - r);
  const root = cholesky(fill(rank, (i, j) => W[i][j] + V[i][j]));
  const between = (A) => symmetric(solve(root, transpose(solve(root, A))));
  return [between(W), between(V)];
}
