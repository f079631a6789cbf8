"""`mtlmoe verify`, from a checkout."""

from mtlmoe_jax.cli import start

if __name__ == "__main__":
  start.run("verify")
