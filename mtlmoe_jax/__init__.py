"""Multi-task mixture-of-experts image models in JAX/Flax."""

from mtlmoe_jax.version import __version__

__all__ = ["__version__"]
