"""What predictions depend on, written beside them: their passport."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax

from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.predicting.predictor import Predictor
from mtlmoe_jax.utils import files
from mtlmoe_jax.version import __version__

FILE = "passport.json"
# Whose versions pixels and sums depend on.
_PACKAGES = (
  *("jax", "jaxlib", "numpy", "opencv-python-headless", "pillow"),
  "simplejpeg",
)


def of(
  restored: Restored, predictor: Predictor, batch_size: int
) -> dict[str, Any]:
  """Everything beside the image that a prediction depends on.

  Args:
    restored: the checkpoint.
    predictor: how it is asked.
    batch_size: images of a compiled batch.

  Returns:
    JSON values: `checkpoint` (`digest` of its arrays, `step`),
    `dataset_fingerprint` of what it was trained on, `temperature` (None:
    not calibrated), `views`, `image_size`, `batch_size`, `device`,
    `versions`.
  """
  config = predictor.config
  return files.plain(
    {
      "checkpoint": {"digest": restored.digest, "step": restored.step},
      "dataset_fingerprint": restored.meta.get("dataset_fingerprint"),
      "temperature": predictor.temperature,
      "views": config.eval.views,
      "image_size": config.data.image_size,
      "batch_size": batch_size,
      "device": jax.default_backend(),
      "versions": {
        "mtlmoe_jax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
      },
    }
  )


def name(passport: Mapping[str, Any]) -> str:
  """16 hexadecimal digits that tell passports apart; every row has them."""
  text = json.dumps(passport, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def record(passport: Mapping[str, Any], restored: Restored) -> dict[str, Any]:
  """What OUT/passport.json holds.

  Args:
    passport: from `of`.
    restored: the checkpoint.

  Returns:
    The passport with `passport` (its name), `run` (the folder of the model) and
    `folder`, from which paths of images are meant.
  """
  return {
    "passport": name(passport),
    **passport,
    "run": str(pathlib.Path(restored.workdir).absolute()),
    "folder": os.getcwd(),
  }
