"""The registry of exercises: the name of a function to write → the module that holds its task,
loaded when it is wanted."""

from importlib import import_module
from typing import TYPE_CHECKING

from fromnoise.errors import UnknownName

if TYPE_CHECKING:
    from fromnoise.learn.exercises.exercise import Exercise

EXERCISES = {
    "add_noise": "fromnoise.learn.exercises.tasks.add_noise",
    "x0_from_eps": "fromnoise.learn.exercises.tasks.x0_from_eps",
    "kl": "fromnoise.learn.exercises.tasks.kl",
    "info_nce": "fromnoise.learn.exercises.tasks.info_nce",
    "cross_attention": "fromnoise.learn.exercises.tasks.cross_attention",
    "cfg": "fromnoise.learn.exercises.tasks.cfg",
    "euler_step": "fromnoise.learn.exercises.tasks.euler_step",
    "heun_step": "fromnoise.learn.exercises.tasks.heun_step",
    "karras_sigmas": "fromnoise.learn.exercises.tasks.karras_sigmas",
}


def load(name: str) -> "Exercise":
    """The exercise of that name. Raises UnknownName."""
    if name not in EXERCISES:
        raise UnknownName("exercise", name, EXERCISES)
    return import_module(EXERCISES[name]).EXERCISE
