"""Running a (fake) model over a split."""

import dataclasses
import json
import pathlib
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.ops import boxes
from tests.support.fakes import FakeSource

CLASSES, EXPERTS = 3, 4


class FakeModel:
  """Answers are plain functions of the mean grey; padding answers NaN."""

  def __init__(self, tasks=("class", "box")):
    self.tasks = tasks

  def apply(self, variables, images, train, valid, choices=None):
    assert not train
    grey = jnp.mean(images.astype(jnp.float32), (1, 2, 3)) / 255
    grey = jnp.where(valid, grey, jnp.nan)
    logits = variables["scale"] * jnp.stack([1 - grey, grey, grey**2], -1)
    box = jnp.stack([0.1 * grey, grey * 0, 0.5 + grey / 3, 0.5 + grey / 2], -1)
    one = jnp.ones_like(grey)
    probs = jnp.stack([0.4 * one, grey / 5, 0.3 - grey / 5, 0.3 * one], -1)
    routing = types.SimpleNamespace(
      experts=jnp.stack([grey * 0, 1 + (grey > 0.3)], -1).astype(jnp.int32),
      weights=jnp.stack([0.75 * one, 0.25 * one], -1),
      probs=probs,
    )
    return types.SimpleNamespace(
      logits=logits if "class" in self.tasks else None,
      box=box if "box" in self.tasks else None,
      routing=dict.fromkeys(self.tasks, routing),
    )


VARIABLES = {"scale": np.float32(3)}


def config_of(batch_size=3):
  config = config_lib.default_config()
  config.data.image_size = 32
  config.eval.batch_size = batch_size
  return config


def run(batch_size=3, tasks=("class", "box"), source=None):
  return evaluate.evaluate_source(
    evaluate.make_predict_step(FakeModel(tasks)),
    VARIABLES,
    FakeSource() if source is None else source,
    config_of(batch_size),
    progress=False,
  )


def test_every_image_once_in_order_without_padding():
  p = run().predictions
  assert p.ids == [f"{i}.png" for i in range(7)]
  np.testing.assert_array_equal(p.labels, FakeSource().labels)
  grey = np.arange(7) * 30 / 255
  np.testing.assert_allclose(p.logits[:, 1], 3 * grey, atol=1e-5)
  np.testing.assert_allclose(p.boxes[:, 2], 0.5 + grey / 3, atol=1e-5)
  np.testing.assert_array_equal(p.has_label, np.arange(7) != 2)
  np.testing.assert_array_equal(p.has_box, np.arange(7) != 4)
  assert p.routing["box"].experts.shape == (7, 2)
  assert list(p.routing) == ["class", "box"]


@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_figures_do_not_depend_on_the_batch_size(batch_size):
  one, other = run(3).metrics, run(batch_size).metrics
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_metrics_are_those_of_a_loop_over_images():
  found = run()
  p, m = found.predictions, found.metrics
  right, overlap = [], []
  for i in range(7):
    record = FakeSource()[i]
    if record["has_label"]:
      right.append(float(p.logits[i].argmax() == record["label"]))
    if record["has_box"]:
      overlap.append(float(boxes.iou(p.boxes[i], record["box"])))
  assert m["top1"] == pytest.approx(np.mean(right))
  assert m["miou"] == pytest.approx(np.mean(overlap), abs=1e-6)
  assert (m["n"], m["n_label"], m["n_box"], m["n_both"]) == (7, 6, 6, 5)
  assert m["class/load"] == pytest.approx([0.5, 3 / 14, 4 / 14, 0])
  assert m["gate_divergence"] == pytest.approx(0, abs=1e-9)
  np.testing.assert_array_equal(np.isnan(p.iou), np.arange(7) == 4)


def test_one_task_alone():
  only_class = run(tasks=("class",))
  assert only_class.predictions.boxes is None
  assert only_class.predictions.iou is None
  assert "miou" not in only_class.metrics
  assert "box/load" not in only_class.metrics
  only_box = run(tasks=("box",))
  assert only_box.predictions.probabilities is None
  assert "top1" not in only_box.metrics
  assert only_box.metrics["miou"] > 0


def test_jit_is_the_callers_choice():
  calls = []

  def jit(step):
    calls.append(step)
    return step

  step = evaluate.make_predict_step(FakeModel(), jit=jit)
  assert calls == [step]


def test_an_empty_split_is_refused():
  with pytest.raises(errors.InputError, match="no images"):
    run(source=FakeSource(0))


@pytest.fixture
def restored(monkeypatch):
  monkeypatch.setattr(models, "build_model", lambda *_: FakeModel())
  config = config_of()
  config.data.synthetic.classes = CLASSES
  config.data.synthetic.size = 32
  config.data.synthetic.train_per_class = 4
  config.data.synthetic.test_per_class = 2
  config.data.validation_fraction = 0.0
  names = evaluate.data_lib.open_data(config).class_names
  return Restored(
    variables=VARIABLES,
    config=config,
    class_names=names,
    step=12,
    meta={"commit": "abc", "seconds": 3.0},
    workdir=pathlib.Path("run"),
  )


def test_evaluate_restored_writes_the_three_files(restored, tmp_path):
  found = evaluate.evaluate_restored(
    restored, tmp_path, "test", batch_size=4, progress=False
  )
  assert found.metrics["n"] == 6
  assert sorted(f.name for f in (tmp_path / "test").iterdir()) == [
    "metrics.json",
    "predictions.csv",
    "report.html",
  ]
  # The checkpoint's config is not changed by the flags of one evaluation.
  assert restored.config.eval.batch_size == 3


@pytest.mark.parametrize("views", ["", "flip"])
def test_the_files_tell_which_views_were_used(restored, tmp_path, views):
  evaluate.evaluate_restored(restored, tmp_path, views=views, progress=False)
  found = json.loads((tmp_path / "test" / "metrics.json").read_text())
  assert found["meta"]["views"] == (views or "whole")
  report = (tmp_path / "test" / "report.html").read_text()
  assert f"views of each image</dt><dd>{views or 'whole'}<" in report
  assert restored.config.eval.views == "whole"


def test_evaluate_restored_refuses_what_cannot_be(restored, tmp_path):
  def fails(match, run=restored, **options):
    with pytest.raises(errors.InputError, match=match):
      evaluate.evaluate_restored(run, tmp_path, progress=False, **options)

  fails("must be one of train, validation, test", split="tset")
  fails("'ten'", views="ten")
  fails("held no images out", split="validation")
  other = dataclasses.replace(restored, class_names=("x", "y"))
  fails(r"\[x, y\] \(2\)", other)
  assert not list(tmp_path.iterdir())
