"""Every file in configs/ builds, and says how to run it."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").rglob("*.py"))
CLASSES = 200


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_builds(path):
  module = load(path)
  assert "python launch/" in module.__doc__
  config = module.get_config()
  if config.data.name != "synthetic":
    config.data.path = "somewhere"
  config_lib.check_config(config)
  model = models.build_model(config, CLASSES)
  images = np.zeros(
    (2, config.data.image_size, config.data.image_size, 3), np.uint8
  )
  variables = jax.eval_shape(
    lambda: model.init({"params": jax.random.key(0)}, images, train=False)
  )
  out = jax.eval_shape(lambda v: model.apply(v, images, train=False), variables)
  tasks = config_lib.tasks_of(config)
  if "class" in tasks:
    assert out.logits.shape == (2, CLASSES)
  if "box" in tasks:
    assert out.box.shape == (2, 4)
  assert set(out.routing) == set(tasks)
  experts = jax.tree.leaves(variables["params"]["experts"])
  assert {leaf.shape[0] for leaf in experts} == {config.model.experts}


@pytest.mark.parametrize("experts", [1, 3, 6])
def test_poster_model_prints_its_parameter_table(experts):
  k = 2 if experts == 6 else 1
  config = load(ROOT / "configs" / "cub.py").get_config(
    f"experts={experts},k={k},gate=noisy_top_k"
  )
  total, active = models.count_parameters(config, CLASSES)
  model = models.build_model(config, CLASSES)
  images = np.zeros((1, 240, 240, 3), np.uint8)
  variables = jax.eval_shape(
    lambda: model.init({"params": jax.random.key(0)}, images, train=False)
  )
  table = models.parameter_table(variables)
  assert f"{total:,}" in table
  # Published B1 without its 1,000-class layer is 6,513,184.
  assert total > experts * 6_513_184
  if experts == 1:
    assert active == total
  else:
    assert active < total
