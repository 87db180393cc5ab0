/** What the explorable of the schedules asks of noise levels. */
import type { NoiseSchedule } from "./schedule.ts";
import { makeSigmas, SPACINGS } from "./spacing.ts";

/** The positive levels of a run, highest first. "even": even in sigma, which no real spacing is. */
export function listLevels(spacing: string, schedule: NoiseSchedule, steps: number): number[] {
  if (spacing === "even") {
    const [low, high] = [schedule.sigmas[0], schedule.sigmas[schedule.length - 1]];
    return Array.from({ length: steps }, (_, i) => high + (i / Math.max(steps - 1, 1)) * (low - high));
  }
  return makeSigmas(schedule, steps, spacing).slice(0, -1);
}

export function nameSpacing(spacing: string): string {
  if (spacing === "even") return "even in σ";
  return spacing === "exponential" ? "even in log σ (Exponential)" : SPACINGS[spacing].label;
}

export function countBelow(levels: number[], sigma: number): number {
  return levels.filter((level) => level < sigma).length;
}

/** The levels with level `index` moved to `sigma`, but not past its neighbours: at least one
 * hundredth of their ratio stays between them. */
export function moveLevel(levels: number[], index: number, sigma: number, low: number, high: number): number[] {
  const above = index ? levels[index - 1] / 1.01 : high;
  const below = index + 1 < levels.length ? levels[index + 1] * 1.01 : low;
  return levels.map((level, i) => (i === index ? Math.min(Math.max(sigma, below), above) : level));
}
