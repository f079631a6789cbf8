"""Pure functions of arrays: boxes, losses, mixup, pixels."""

from mtlmoe_jax.utils import lazy

__all__ = ["boxes", "losses", "mixup", "pixels"]

__getattr__, __dir__ = lazy.members(__name__, __all__)
