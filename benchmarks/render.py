"""Pictures a second of one core's own time that the stickers source renders, caches cold and warm:
[SIZE …]."""

import sys
import time

from fromnoise.data.sources import open_source


def measure_rate(source, first: int, count: int) -> float:
    start = time.process_time()
    for seed in range(first, first + count):
        source.sample(seed)
    return count / (time.process_time() - start)


def main() -> None:
    print(f"{'size':>5} {'cold/s':>8} {'warm/s':>8}")
    for size in map(int, sys.argv[1:] or ("64", "128", "256")):
        source = open_source("stickers", size=size)
        cold = measure_rate(source, 0, 200)
        measure_rate(source, 200, 3000)  # fills the sprites and the canvases
        print(f"{size:5} {cold:8.0f} {measure_rate(source, 10_000, 1000):8.0f}", flush=True)
    source = open_source("stickers")
    start = time.process_time()
    for seed in range(5000):
        source.sample(seed, draw=False)
    print(f"captions and labels alone: {5000 / (time.process_time() - start):.0f}/s")


if __name__ == "__main__":
    main()
