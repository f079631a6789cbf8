"""About how long a run takes: arithmetic of its networks over the machine's.

A model of costs, not a trial run: operations of a forward pass, over the share
of `Facts.gflops` that such a pass reaches. The shares were read off runs on two
CPU cores; on an accelerator it is rougher.
"""

import dataclasses

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.training.fit.facts import Facts

# 1e9 operations of a forward pass at 224 pixels, up to a stage, and bytes that
# features behind it take, as XLA counts them; of the stages that are chosen.
_GFLOP = {
  "tf_efficientnet_lite0": {3: 0.239, 4: 0.328, 5: 0.502, 8: 0.788},
  "tf_efficientnet_lite1": {3: 0.334, 4: 0.455, 5: 0.696, 8: 1.028},
  "tf_efficientnet_lite2": {3: 0.366, 4: 0.516, 5: 0.792, 8: 1.178},
}
# What is reached of a large matrix product's rate: forward, and forward and
# backward (three times the operations).
_FORWARD, _TRAINED = 0.47, 0.38
# Seconds of two quiet cores of `_QUIET` GFLOP/s: to start and compile; for the
# report; of a step beside its images; of an image behind a frozen backbone.
_QUIET = 178.0
_START, _REPORT, _STEP, _HEAD = 22.0, 3.0, 0.01, 0.002
# Images that a core reads, and crops that it makes, in a second.
_READ, _CROPPED = 250.0, 500.0


@dataclasses.dataclass(frozen=True)
class Cost:
  """Seconds of the parts of a run; all 0 where they are not known.

  Attributes:
    start: until the first step, without features, and the report.
    features: that are computed once.
    train: all steps, with what is evaluated between them.
    test: of the test images, at the end.
  """

  start: float = 0.0
  features: float = 0.0
  train: float = 0.0
  test: float = 0.0

  @property
  def seconds(self) -> float:
    """Of the whole command."""
    return self.start + self.features + self.train + self.test

  def text(self) -> str:
    """As `3 minutes (features 1:10, ...)`."""
    if not self.seconds:
      return "not known for this backbone"
    parts = ", ".join(
      f"{name} {_words(getattr(self, name))}"
      for name in ("start", "features", "train", "test")
      if getattr(self, name) >= 1
    )
    return f"{_words(self.seconds)} ({parts})"


def _words(seconds: float) -> str:
  """Two digits: more would be a promise."""
  for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
    if seconds >= 1.5 * length:
      return f"{seconds / length:.2g} {unit}"
  return f"{seconds:.2g} s"


def gflop(backbone: str, stages: int, size: int) -> float:
  """1e9 operations of one image up to a stage; 0 where it is not known."""
  return _GFLOP.get(backbone, {}).get(stages, 0.0) * (size / 224) ** 2


def _views(name: str) -> int:
  """How many views of an image `eval.views` has."""
  words = name.split("+")
  each = 2 if "flip" in words else 1
  return each * ((6 if "crops" in words else 1) + ("zoom" in words))


def forecast(
  config: ml_collections.ConfigDict, facts: Facts, images: int, steps: int
) -> Cost:
  """The cost of a run.

  Args:
    config: the whole config.
    facts: of its data and machine.
    images: that are trained on.
    steps: of the run.
  """
  model, size = config.model, config.data.image_size
  whole = gflop(model.backbone, 8, size)
  stem = gflop(model.backbone, model.shared_stages, size)
  if not whole or (model.shared_stages and not stem):
    return Cost()
  rate = facts.gflops * max(1, facts.devices)
  # What the CPU does is as slow as it is; an accelerator's rate says nothing.
  slow = _QUIET / facts.gflops if facts.backend == "cpu" else 1.0
  head = _HEAD * slow * (size / 288) ** 2
  shown = steps * config.batch_size
  chosen = max(config_lib.k_of(config)) * len(config_lib.tasks_of(config))
  at_once = min(model.experts, chosen)
  learned = 3 * at_once * (whole - stem) / (rate * _TRAINED)
  each = learned + head * at_once
  features = 0.0
  if config.features.views:
    views = images * config.features.views
    features = views * stem / (rate * _FORWARD)
    features += (images / _READ + views / _CROPPED) / facts.cores * slow
  else:
    each += stem / (rate * _FORWARD) + slow / (_CROPPED * facts.cores)
  seen = whole * (1 + (at_once - 1) * (1 - stem / whole))
  look = seen / (rate * _FORWARD)
  read = slow / (_READ * facts.cores)
  held_out = facts.train - images or facts.validation
  epochs = shown / max(1, images)
  watched = epochs / config.eval.every_epochs * held_out
  watched *= 0 if config.data.validation_fraction <= 0 else 1
  train = shown * each + steps * _STEP * slow
  train += watched * (head if config.features.views else look)
  test = facts.test * (read + look * _views(config.eval.views))
  start = (_START + _REPORT * config.eval.report) * slow
  # All that is evaluated is decoded once before the first step.
  return Cost(start + (facts.test + held_out) * read, features, train, test)
