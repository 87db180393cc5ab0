"""One guided step of the bundled U-Net: ONNX Runtime against eager PyTorch, one thread each.

python benchmarks/onnx_step.py [--model FOLDER] [--rounds 20] [--dtype fp32]
A round times both, one after the other, so that both see the same machine; the table has medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.onnx.export import export
from fromnoise.models.conditioning import Conditioning
from fromnoise.runtime.prepare import prepare


def measure(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--model", help="a folder; else the bundled model")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dtype", default="fp32", help="of the exported weights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_parts(args.model)
    config, side = model.unet.config, model.unet.config.sample_size
    x = torch.randn(2, config.in_channels, side, side)  # with the prompt and without it
    t = torch.tensor([500.0, 500.0])
    context = torch.randn(2, model.tokenizer.max_length, config.context_dim)
    with tempfile.TemporaryDirectory() as folder:
        report = export(model, Path(folder), args.dtype, ["unet"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(report.folder / "unet.onnx", options)
        inputs = {"x": x.numpy(), "t": t.numpy(), "context": context.numpy()}
        step = prepare(model.unet).bind(Conditioning(context))
        runs = {
            "onnxruntime": lambda: session.run(None, inputs),
            "torch": lambda: step(x, t),
        }
        for run in runs.values():
            run()
        times = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, run in runs.items():
                times[name].append(measure(run))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = [a / b for a, b in zip(times["onnxruntime"], times["torch"], strict=True)]
    for name, value in medians.items():
        print(f"{name:12} {value:7.1f} ms a step of two rows")
    print(f"ratio {statistics.median(ratios):14.2f}  (ONNX Runtime / PyTorch: lower is faster)")
    print(f"difference   {report.parts['unet']['error']:.1e} of the output's root mean square")


if __name__ == "__main__":
    main()
