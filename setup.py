"""What setup.cfg cannot say: `configs/` is installed as `mtlmoe_jax/configs`.

So a config stays one file at the top of a checkout, and `mtlmoe train
--config=demo` works wherever the package is installed.
"""

import setuptools

setuptools.setup(
  packages=[
    *setuptools.find_packages(include=["mtlmoe_jax*"]),
    "mtlmoe_jax.configs",
  ],
  package_dir={"mtlmoe_jax.configs": "configs"},
)
