"""Extra data, mixup and the cosine classifier in whole runs."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from mtlmoe_jax import data, errors, models
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.training import clock, initialization, loop
from mtlmoe_jax.utils import trees
from tests.support import layouts, tiny
from tests.support.models import shapes_of


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
      "eval.report": False,
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
  restored = restore.restore_for_eval(finished / "run", "latest")
  assert restored.class_names[3:] == ("crow_0", "crow_1")
  kernel = restored.variables["params"]["tower_class"]["out"]["kernel"]
  assert kernel.shape == (16, 5)
  result = json.loads((finished / "run" / "result.json").read_text())
  assert result["n"] == 9
  opened = data.open_data(restored.config)
  assert set(opened.test.labels) == {0, 1, 2}
  assert result["dataset_fingerprint"] == opened.fingerprint


def test_evaluation_does_not_need_the_extra_data(finished, tmp_path):
  restored = restore.restore_for_eval(finished / "run", "latest")
  config = restored.config
  config.data.extra.path = str(tmp_path / "gone")
  found = evaluate.evaluate_restored(
    dataclasses.replace(restored, config=config), tmp_path / "eval"
  )
  result = json.loads((finished / "run" / "result.json").read_text())
  assert found.metrics["miou"] == pytest.approx(result["miou"], abs=1e-6)
  assert found.predictions.logits.shape == (9, 5)
  config.data.classes = "last:2"
  with pytest.raises(errors.InputError, match="the checkpoint"):
    evaluate.evaluate_restored(
      dataclasses.replace(restored, config=config), tmp_path / "eval"
    )


def test_a_stopped_run_goes_on_bit_equal(
  finished, tmp_path, monkeypatch, capfd
):
  mean = clock.Window.mean

  def stop_then_mean(window):
    # Of step 2, which is logged but not saved.
    os.kill(os.getpid(), signal.SIGTERM)
    return mean(window)

  config = make_config(finished / "extra", **{"data.threads": 3})
  run = str(tmp_path / "run")
  with monkeypatch.context() as patch:
    patch.setattr(clock.Window, "mean", stop_then_mean)
    assert loop.train(config, run) == loop.STOPPED
  # 24 main images: 16 more are 0.4 of 40.
  told = f"8 images of {finished / 'extra'}, 16 of the 40 images of an epoch"
  assert told in capfd.readouterr().err
  assert restore.restore_for_eval(run, "latest").step == 3
  assert loop.train(config, run) == 0
  one, other = (
    restore.restore_for_eval(folder, "latest")
    for folder in (finished / "run", run)
  )
  assert one.step == other.step == 6
  jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


@pytest.mark.parametrize(
  ("classifier", "classes", "new"),
  [("linear", 5, {"bias"}), ("cosine", 3, {"kernel"})],
)
def test_a_cosine_run_is_a_start_for_either_classifier(
  finished, classifier, classes, new
):
  restored = restore.restore_for_eval(finished / "run", "latest")
  config = tiny.config(**{"model.classifier": classifier})
  model = models.build_model(config, classes)
  variables = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype),
    shapes_of(
      model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8)
    ),
  )
  found = trees.flatten(
    initialization.transfer(variables, restored)[0]["params"]
  )
  theirs = trees.flatten(restored.variables["params"])
  untouched = {name for name in found if not np.any(found[name])}
  assert {n for n in untouched if n.startswith("tower_class/out/")} == {
    f"tower_class/out/{name}" for name in new
  }
  for name in found.keys() - untouched:
    np.testing.assert_array_equal(found[name], theirs[name])
