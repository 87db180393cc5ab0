/** Data in the plane whose denoiser is known: points, each with the same small deviation around it.
 * x and points are flat: x0, y0, x1, y1, … */

export interface PlaneData {
  points: Float64Array; // (n, 2) flat
  deviation: number; // of the data around each point
}

export interface Posterior {
  mean: [number, number]; // E[x0 | x]
  covariance: [number, number, number]; // of x0 given x: xx, xy, yy
}

/** What can be known of the clean point behind (x, y) at sigma. */
export function computePosterior(data: PlaneData, x: number, y: number, sigma: number): Posterior {
  const { points, deviation } = data;
  const spread = deviation ** 2 + sigma ** 2;
  let nearest = Infinity;
  for (let i = 0; i < points.length; i += 2)
    nearest = Math.min(nearest, (x - points[i]) ** 2 + (y - points[i + 1]) ** 2);
  let total = 0, mx = 0, my = 0, xx = 0, xy = 0, yy = 0;
  for (let i = 0; i < points.length; i += 2) {
    const [px, py] = [points[i], points[i + 1]];
    const likely = Math.exp((nearest - (x - px) ** 2 - (y - py) ** 2) / (2 * spread));
    total += likely;
    mx += likely * px;
    my += likely * py;
    xx += likely * px * px;
    xy += likely * px * py;
    yy += likely * py * py;
  }
  [mx, my] = [mx / total, my / total];
  const keep = deviation ** 2 / spread; // how far x moves a point's own answer
  const own = deviation ** 2 * (sigma ** 2 / spread); // what stays unknown inside one point's data
  const scale = (1 - keep) ** 2;
  return {
    mean: [mx + keep * (x - mx), my + keep * (y - my)],
    covariance: [
      scale * (xx / total - mx * mx) + own, scale * (xy / total - mx * my), scale * (yy / total - my * my) + own,
    ],
  };
}

/** ∇ log p(x) at sigma: (E[x0 | x] − x) / sigma². */
export function computeScore(data: PlaneData, x: number, y: number, sigma: number): [number, number] {
  const { mean } = computePosterior(data, x, y, sigma);
  return [(mean[0] - x) / sigma ** 2, (mean[1] - y) / sigma ** 2];
}

/** How E[x0 | x] stretches neighbours apart at (x, y), along its strongest direction: the largest
 * eigenvalue of Cov(x0 | x) / sigma². Below 1 the arrows pull neighbours together; above 1 they
 * send them to different places: the field is split. */
export function measureSplit(data: PlaneData, x: number, y: number, sigma: number): number {
  const [xx, xy, yy] = computePosterior(data, x, y, sigma).covariance;
  const half = (xx + yy) / 2;
  return (half + Math.hypot((xx - yy) / 2, xy)) / sigma ** 2;
}

export function computeMean(points: Float64Array): [number, number] {
  let [x, y] = [0, 0];
  for (let i = 0; i < points.length; i += 2) {
    x += points[i];
    y += points[i + 1];
  }
  const n = points.length / 2;
  return [x / n, y / n];
}

/** The places of particles at every level, by Euler's rule along the exact arrows. */
export function followArrows(data: PlaneData, starts: Float64Array, sigmas: number[]): Float64Array[] {
  const places = [starts];
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const x = places[i].slice();
    const keep = sigmas[i + 1] / sigmas[i];
    for (let k = 0; k < x.length; k += 2) {
      const [mx, my] = computePosterior(data, x[k], x[k + 1], sigmas[i]).mean;
      x[k] = mx + (x[k] - mx) * keep; // x + (x − x0) / sigma · (sigma' − sigma)
      x[k + 1] = my + (x[k + 1] - my) * keep;
    }
    places.push(x);
  }
  return places;
}

/** `count` levels even in log sigma, then 0. */
export function makeLevels(count: number, high: number, low: number): number[] {
  return [...Array.from({ length: count }, (_, i) => high * (low / high) ** (i / (count - 1))), 0];
}

export type Shape = "blobs" | "ring" | "moons" | "spiral" | "grid";

/** Points of a shape inside of [−1.2, 1.2]², `count` of them, always the same. */
export function makePoints(shape: Shape, count: number): Float64Array {
  const points = new Float64Array(2 * count);
  const golden = Math.PI * (3 - Math.sqrt(5)); // turns that fill a disc evenly
  for (let i = 0; i < count; i++) {
    const u = (i + 0.5) / count;
    const [x, y] = makePoint(shape, i, count, u, golden);
    points[2 * i] = x;
    points[2 * i + 1] = y;
  }
  return points;
}

function makePoint(shape: Shape, i: number, count: number, u: number, golden: number): [number, number] {
  if (shape === "blobs") {
    const radius = 0.22 * Math.sqrt(((i >> 1) + 0.5) / (count / 2));
    return [(i % 2 ? 0.8 : -0.8) + radius * Math.cos(i * golden), radius * Math.sin(i * golden)];
  }
  if (shape === "ring") return [Math.cos(2 * Math.PI * u), Math.sin(2 * Math.PI * u)];
  if (shape === "moons") {
    const angle = Math.PI * (((i >> 1) + 0.5) / (count / 2));
    const [x, y] = [0.75 * Math.cos(angle), 0.75 * Math.sin(angle)];
    return i % 2 ? [x - 0.375, y - 0.18] : [0.375 - x, 0.18 - y];
  }
  if (shape === "spiral") {
    const angle = 3.5 * Math.PI * Math.sqrt(u) + 0.5;
    return [(angle / 11.5) * 1.15 * Math.cos(angle), (angle / 11.5) * 1.15 * Math.sin(angle)];
  }
  const side = Math.ceil(Math.sqrt(count));
  return [-0.9 + (1.8 * (i % side)) / (side - 1), -0.9 + (1.8 * Math.floor(i / side)) / (side - 1)];
}
