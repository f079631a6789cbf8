"""A model that tells light from dark, without parameters."""

import pathlib
import types

import jax.numpy as jnp

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import Restored

NAMES = ("dark", "middle", "light")


class FakeModel:
  """The lighter the image, the higher the class."""

  def __init__(self, tasks=("class", "box")):
    self.tasks = tasks

  def apply(self, variables, images, train, valid):
    grey = jnp.mean(images.astype(jnp.float32), (1, 2, 3)) / 255
    far = (grey[:, None] - jnp.asarray([0.0, 0.5, 1.0])) ** 2
    one = jnp.ones_like(grey)
    routing = types.SimpleNamespace(
      experts=jnp.stack([one, 3 * one], -1).astype(jnp.int32),
      weights=jnp.stack([0.25 * one, 0.75 * one], -1),
      probs=jnp.stack([0.25 * one] * 4, -1),
    )
    return types.SimpleNamespace(
      logits=-20 * far if "class" in self.tasks else None,
      box=jnp.stack([0.25 * one, 0.5 * one, one, 0.75 * one], -1)
      if "box" in self.tasks
      else None,
      routing=dict.fromkeys(self.tasks, routing),
    )


class PlacedModel(FakeModel):
  """Its answers depend on the place in a batch, as last bits of real ones."""

  def apply(self, variables, images, train, valid):
    places = jnp.arange(len(images), dtype=jnp.float32)
    lighter = images.astype(jnp.float32) + places[:, None, None, None]
    return super().apply(variables, lighter, train, valid)


def restored_of(monkeypatch, tasks=("class", "box"), model=FakeModel):
  monkeypatch.setattr(models, "build_model", lambda *_: model(tasks))
  config = config_lib.default_config()
  config.data.image_size = 32
  config.eval.batch_size = 2
  return Restored({}, config, NAMES, 1, {}, pathlib.Path("run"))
