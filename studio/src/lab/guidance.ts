/** Classifier-free guidance, as src/fromnoise/diffusion/guidance.py does it, and the plane that it
 * moves in. */

/** unconditional + scale · (conditional − unconditional), by the formula of torch.lerp. */
export function applyCfg(x0: Float32Array, uncond: Float32Array, scale: number): Float32Array {
  if (scale < 0.5) return uncond.map((u, i) => u + scale * (x0[i] - u));
  return x0.map((c, i) => c - (c - uncond[i]) * (1 - scale));
}

/** A point of the plane through zero and both answers. */
export interface Point {
  x: number;
  y: number;
}

/** The two answers in that plane, in units of a root mean square: the answer without the prompt lies
 * on the first axis. Lengths and angles are the true ones. */
export function projectAnswers(x0: Float32Array, uncond: Float32Array): { uncond: Point; cond: Point } {
  let [uu, uc, cc] = [0, 0, 0];
  for (let i = 0; i < x0.length; i++) {
    uu += uncond[i] ** 2;
    uc += uncond[i] * x0[i];
    cc += x0[i] ** 2;
  }
  const [n, length] = [x0.length, Math.sqrt(uu)];
  const along = uc / length;
  const across = Math.sqrt(Math.max(cc - along ** 2, 0));
  const unit = Math.sqrt(n);
  return { uncond: { x: length / unit, y: 0 }, cond: { x: along / unit, y: across / unit } };
}

/** Where guidance of this scale leads in the plane. */
export function guidePoint(uncond: Point, cond: Point, scale: number): Point {
  return {
    x: uncond.x + scale * (cond.x - uncond.x),
    y: uncond.y + scale * (cond.y - uncond.y),
  };
}
