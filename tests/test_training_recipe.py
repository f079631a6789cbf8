"""Extra data, mixup and the cosine classifier in whole runs."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from mtlmoe_jax import data, models
from mtlmoe_jax.training import checkpoint, loop, transfer
from mtlmoe_jax.training import optimizer as optim
from tests import data_layouts as layouts
from tests import tiny


def make_config(folder, **options):
  return tiny.config(
    **{
      "steps": 6,
      "data.validation_fraction": 0.0,
      "data.extra.path": str(folder),
      "data.extra.share": 0.4,
      "data.augment.mixup": 0.5,
      "model.classifier": "cosine",
      "optimizer.ema": 0.0,
      "checkpoint.every_steps": 3,
      **options,
    }
  )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """An uninterrupted run, and its extra data."""
  folder = tmp_path_factory.mktemp("recipe")
  for i in range(8):
    path = folder / "extra" / f"crow_{i % 2}" / f"{i}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(layouts.encode(layouts.picture(i, 40, 32)))
  assert loop.train(make_config(folder / "extra"), str(folder / "run")) == 0
  return folder


def test_extra_classes_are_in_the_checkpoint_and_not_in_the_test(finished):
  restored = checkpoint.restore_for_eval(finished / "run", "latest")
  assert restored.class_names[3:] == ("crow_0", "crow_1")
  kernel = restored.variables["params"]["tower_class"]["out"]["kernel"]
  assert kernel.shape == (16, 5)
  result = json.loads((finished / "run" / "result.json").read_text())
  assert result["n"] == 9
  opened = data.open_data(restored.config)
  assert set(opened.test.labels) == {0, 1, 2}
  assert result["dataset_fingerprint"] == opened.fingerprint


def test_a_stopped_run_goes_on_bit_equal(finished, tmp_path, monkeypatch):
  mean = loop._mean

  def stop_then_mean(window):
    os.kill(os.getpid(), signal.SIGTERM)
    return mean(window)

  config = make_config(finished / "extra", **{"data.threads": 3})
  run = str(tmp_path / "run")
  with monkeypatch.context() as patch:
    patch.setattr(loop, "_mean", stop_then_mean)
    assert loop.train(config, run) == loop.STOPPED
  assert checkpoint.restore_for_eval(run, "latest").step < 6
  assert loop.train(config, run) == 0
  one, other = (
    checkpoint.restore_for_eval(folder, "latest")
    for folder in (finished / "run", run)
  )
  assert one.step == other.step == 6
  jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_a_cosine_run_is_a_start_for_either_classifier(
  finished, classifier, classes
):
  restored = checkpoint.restore_for_eval(finished / "run", "latest")
  config = tiny.config(**{"model.classifier": classifier})
  model = models.build_model(config, classes)
  variables = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype),
    jax.eval_shape(
      model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8)
    ),
  )
  found = optim.flatten(transfer.transfer(variables, restored)[0]["params"])
  theirs = optim.flatten(restored.variables["params"])
  new = {name for name in found if not np.any(found[name])}
  out = {
    ("linear", 3): {"kernel", "bias"},
    ("linear", 5): {"bias"},
    ("cosine", 3): {"kernel"},
    ("cosine", 5): set(),
  }[classifier, classes]
  assert {n for n in new if n.startswith("tower_class/out/")} == {
    f"tower_class/out/{name}" for name in out
  }
  for name in found.keys() - new:
    np.testing.assert_array_equal(found[name], theirs[name])


def test_the_banner_tells_of_extra_data(finished, tmp_path, capfd):
  config = make_config(finished / "extra", steps=1)
  assert loop.train(config, str(tmp_path)) == 0
  # 24 main images: 16 more are 0.4 of 40.
  told = f"8 images of {finished / 'extra'}, 16 of the 40 images of an epoch"
  assert told in capfd.readouterr().err
