"""Every file in configs/ builds, and says how to run it."""

import functools
import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.config import poster
from tests.support.models import shapes_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = {path.stem: path for path in (ROOT / "configs").rglob("*.py")}
# Each config as a command line has it; of the poster each row.
NAMES = sorted({*FILES, *(f"poster:{row}" for row in poster.ROWS)} - {"poster"})
CLASSES = 200


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@functools.cache
def shapes(model_options, size, precision, weighting):
  """Shapes of a model's variables and of what it says; rows share models."""
  config = config_lib.default_config()
  config_lib.update_from_dict(config.model, json.loads(model_options), "model.")
  config.precision, config.loss.weighting = precision, weighting
  model = models.build_model(config, CLASSES)
  images = np.zeros((2, size, size, 3), np.uint8)
  out, variables = shapes_of(
    lambda: model.init_with_output(
      {"params": jax.random.key(0)}, images, train=False
    )
  )
  return variables, out


@pytest.mark.parametrize("name", NAMES)
def test_builds(name):
  stem, _, arg = name.partition(":")
  module = load(FILES[stem])
  assert "python launch/" in module.__doc__
  config = module.get_config(arg)
  if config.data.name != "synthetic":
    config.data.path = "somewhere"
  config_lib.check_config(config)
  variables, out = shapes(
    config.model.to_json_best_effort(),
    config.data.image_size,
    config.precision,
    config.loss.weighting,
  )
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
  model = models.build_model(config, CLASSES)
  images = np.zeros((1, 240, 240, 3), np.uint8)
  variables = shapes_of(
    lambda: model.init({"params": jax.random.key(0)}, images, train=False)
  )
  total, active = models.count_parameters(config, CLASSES, variables["params"])
  table = models.parameter_table(variables)
  assert f"{total:,}" in table
  # Published B1 without its 1,000-class layer is 6,513,184.
  assert total > experts * 6_513_184
  if experts == 1:
    assert active == total
  else:
    assert active < total


def test_rows_of_the_poster_take_options_and_are_told():
  module = load(FILES["poster"])
  config = module.get_config("table_1_expert,epochs=3,k=1")
  assert (config.model.experts, config.epochs) == (1, 3)
  assert config.batch_size == 16
  assert module.get_config("table_6_experts").batch_size == 8
  for row in poster.ROWS:
    assert row in module.__doc__
  for name in ("", "table_7_experts"):
    with pytest.raises(errors.InputError, match=f"'{name}'.*exp1_single"):
      module.get_config(name)
