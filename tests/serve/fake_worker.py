"""A worker that draws in microseconds: the colour of a picture follows from its seed and prompt."""

import hashlib
import threading
import time
from functools import partial

import numpy as np
from PIL import Image

from fromnoise.errors import BadInput, NotFound
from fromnoise.pipeline.expanding.rules import Vocabulary
from fromnoise.serve.work.worker import ModelInfo, Progress


class FakeWorker:
    """Draws `steps` steps of `seconds` each. A prompt may say what is to go wrong."""

    def __init__(self, seconds=0.0):
        self.seconds, self.calls, self.held = seconds, [], threading.Event()
        self.held.set()  # clear it to make runs wait before each step
        self.faults = 0  # how many runs are still to fail
        self.previews = 0  # how many were made

    def check(self, task):
        if task.model not in ("fromnoise", "other"):
            raise NotFound(f"there is no model {task.model!r}", "name one of the list")
        if task.vae not in ("", "soft"):
            raise NotFound(f"no vae {task.vae!r}", "name one of the list")
        if getattr(task.request, "width", None) == 8:
            raise BadInput("width 8 does not fit this model", "use a multiple of 16")

    def draw(self, task, watch):
        request = task.request
        if task.kind == "upscale":
            from fromnoise.serve.work.upscalers import enlarge

            watch(Progress(0, 1, 0.0))
            return [enlarge(task.inputs["image"], request, "cpu")]
        self.calls.append((request.prompt, request.seed))
        if "broken" in request.prompt:
            raise BadInput("this model is broken", "take another")
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a fault of the program")
        total = request.steps or 4
        look = partial(self.look_at_step, request.count)
        for i in range(total):
            self.held.wait(10)
            time.sleep(self.seconds)
            self.calls.append(i)
            notes = ("a note",) if "noted" in request.prompt else ()
            watch(Progress(i, total, float(total - i - 1), notes, look))
        return [self.paint(request, seed, task) for seed in request.seeds()]

    def trace(self, task, watch, most):
        if task.kind == "hires":
            raise BadInput("this worker traces no two passes", "trace another picture")
        from fromnoise.pipeline.inside.recording import Recording

        picture = self.draw(task, watch)[0]
        x = np.ones((4, 4, 4), np.float32)
        words = [{"text": text, "of": 0} for text in ("<start>", *task.request.prompt.split())]
        maps = np.arange(16 * len(words), dtype=np.float32).reshape(-1, 4, 4)
        row = {"call": 0, "step": 0, "stage": 0, "part": 0, "sigma": 2.0, "t": 9.0, "scale": 0.5}
        row |= {"rms": {"x": 1.0, "cond": 0.5, "eps": 0.25, "guidance": 0.5}, "kept": True}
        row |= {"angles": dict.fromkeys(("with_without", "guidance_x0", "guidance_earlier"))}
        row |= {"words": [*range(len(words))], "shares": [0.5] * len(words)}
        facts = {"prompt": task.request.prompt, "negative_prompt": "", "settings": {"cfg": 1.0}}
        facts |= {"infotext": picture.info["parameters"], "size": [*picture.size], "latents": 4}
        facts |= {"tiling": "none", "prediction": "eps", "words": words, "layers": ["mid"]}
        facts |= {"schedule": [[0, 0.1], [9, 2.0]], "calls": [row], "notes": []}
        tensors = {"0.x": x, "0.cond": x / 2, "0.uncond": x / 4, "0.guided": x / 3}
        return Recording(facts, tensors | {"0.map.0": maps}, picture)

    def decode(self, model, latents, tiling):
        return Image.new("RGB", (32, 32), (round(abs(float(latents.mean())) * 99), 0, 0)), True

    def look_at_step(self, count):
        self.previews += 1
        return [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(count)]

    def paint(self, request, seed, task):
        inputs = "".join(path.stem for path in task.inputs.values())
        text = f"{request.prompt} {seed} {inputs}".encode()
        colour = tuple(hashlib.sha256(text).digest()[:3])
        picture = Image.new("RGB", (request.width or 32, request.height or 32), colour)
        picture.info["parameters"] = f"{request.prompt}\nSteps: {request.steps or 4}, Seed: {seed}"
        return picture

    def look(self, task):
        self.calls.append(task.kind)
        if task.kind == "similarity":
            return {"kinds": [], "cosines": [[1.0]]}
        row = {"caption": "a red square", "probability": 1.0, "cosine": 0.5, "attributes": {}}
        return {"captions": [row]}

    def models(self):
        return [ModelInfo("fromnoise", 1, True, "bundled"), ModelInfo("other", 2, False, "disk")]

    def peek(self, name):
        return None

    def family(self, name):
        return "Stable Diffusion 1"

    def vocabulary(self, name):
        self.load(name)
        return Vocabulary()

    def load(self, name):
        if name not in ("fromnoise", "other"):
            raise NotFound(f"there is no model {name!r}", "name one of the list")

    def unload(self, name):
        return name == "fromnoise"

    def memory(self):
        return {"models": 3, "budget": 9}


def make_slow_worker(settings):
    """For replicas, which make their own."""
    return FakeWorker(0.05)
