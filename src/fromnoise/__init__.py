"""fromnoise: text-to-image latent diffusion. `from fromnoise import load` gives what draws."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fromnoise.api import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str):  # PEP 562: `import fromnoise` must not wait for torch
    if name == "load":
        from fromnoise.api import load

        return load
    raise AttributeError(f"module 'fromnoise' has no attribute {name!r}")
