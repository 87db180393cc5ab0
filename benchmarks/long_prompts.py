"""A prompt of 20,000 characters beside a negative prompt of another length, against the same tokens
at equal length: processor time and peak memory, each run in a process of its own.

python benchmarks/long_prompts.py [--steps 2]"""

import argparse
import json
import subprocess
import sys

# children's code: one run, its seconds and what it adds to the peak memory of a short prompt
CHILD = """
import json, resource, sys, time
from fromnoise import load
prompt, negative, steps = json.loads(sys.argv[1])
engine = load()
engine.generate("a cat", negative_prompt="a dog", seed=1, steps=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.process_time()
engine.generate(prompt, negative_prompt=negative, seed=1, steps=steps, max_cost=float("inf"))
seconds = time.process_time() - begun
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
LONG = ("a neon cat in space, " * 953)[:20_000]
CASES = {
    "equal": LONG.replace("neon", "blue").replace("cat", "dog"),  # other words: each is encoded
    "one block": "a dog",
    "half": LONG[:10_000],
    "one block less": LONG[:-400],
    "two thirds": LONG[:13_333],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    steps = parser.parse_args().steps
    print("| negative prompt | processor seconds | × | MiB more at the peak | × |")
    print("|---|---:|---:|---:|---:|")
    base: tuple[float, float] | None = None
    for name, negative in CASES.items():
        run = [sys.executable, "-c", CHILD, json.dumps([LONG, negative, steps])]
        output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        seconds, memory = map(float, output.split()[-2:])
        base = base or (seconds, memory)
        ratios = seconds / base[0], memory / max(base[1], 1)
        print(f"| {name} | {seconds:.2f} | {ratios[0]:.2f} | {memory:.0f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
