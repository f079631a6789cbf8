"""A run that version 0.2.0 made: read, asked and gone on with."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import mtlmoe_jax
from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import restore_for_eval
from mtlmoe_jax.evaluation import evaluate
from tests.support import written
from tests.support.golden_run import ANSWERS, CONFIGS, images, unpacked

# What another order of float32 sums may change.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return unpacked(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def restored(workdir):
  return restore_for_eval(workdir)


def test_it_says_what_it_is(restored, workdir):
  assert restored.step == 2
  assert restored.class_names == tuple(restored.meta["class_names"])
  assert len(restored.class_names) == 3
  assert restored.workdir == workdir
  record = json.loads((workdir / "calibration.json").read_text())
  assert restored.temperature == record["temperature"]
  assert restored.config.model.experts == 2
  assert restored.meta["versions"]["mtlmoe_jax"] == "0.2.0"


def test_arrays_are_those_it_gave(restored):
  frames = [
    data_lib.eval_frames(image, restored.config)["image"] for image in images()
  ]
  step = evaluate.make_predict_step(models.build_model(restored.config, 3))
  batch = {"image": np.stack(frames), "valid": np.ones(5, bool)}
  outputs = step(restored.variables, batch)
  expected = ANSWERS["outputs"]
  for name in ("logits", "box"):
    np.testing.assert_allclose(outputs[name], expected[name], **CLOSE)
  assert sorted(outputs["routing"]) == ["box", "class"]
  for task, choices in expected["routing"].items():
    for name, values in choices.items():
      np.testing.assert_allclose(
        outputs["routing"][task][name], values, **CLOSE
      )


def test_predictions_are_those_it_wrote(restored, tmp_path):
  for number, image in enumerate(images()):
    Image.fromarray(image).save(tmp_path / f"{number}.png")
  entries = written.rows(
    restored,
    sorted(tmp_path.iterdir()),
    tmp_path / "out",
    overlays="png",
  )
  assert len(entries) == len(ANSWERS["predictions"]) == 5
  for entry, expected in zip(entries, ANSWERS["predictions"]):
    assert pathlib.Path(entry.pop("id")).name == expected.pop("id")
    assert entry.keys() == expected.keys() | {"error", "passport"}
    for name in ("class", "class_index", "width", "height", "overlay"):
      assert entry[name] == expected[name]
    assert [t["class"] for t in entry["top5"]] == [
      t["class"] for t in expected["top5"]
    ]
    np.testing.assert_allclose(
      [t["probability"] for t in entry["top5"]],
      [t["probability"] for t in expected["top5"]],
      rtol=1e-4,
    )
    # Both are rounded: to a hundredth of a pixel, to a millionth.
    for name, unit in (("pixels", 0.01), ("normalised", 1e-5)):
      np.testing.assert_allclose(
        entry["box"][name], expected["box"][name], atol=unit
      )
    for task, experts in expected["experts"].items():
      assert entry["experts"][task][0]["expert"] == experts[0]["expert"]


def test_training_goes_on_to_the_result_it_had(tmp_path):
  workdir = unpacked(tmp_path)
  before = json.loads((workdir / "result.json").read_text())
  (workdir / "result.json").unlink()
  saved = json.loads((workdir / "config.json").read_text())
  result = mtlmoe_jax.train(config_lib.from_saved(saved), workdir)
  assert result.finished and result.workdir == workdir
  after = json.loads((workdir / "result.json").read_text())
  assert result.metrics == after
  assert (before["step"], after["step"]) == (4, 4)
  for name in ("n", "dataset_fingerprint", "parameters", "views"):
    assert after[name] == before[name]
  for name in ("top1", "miou", "mciou", "loss_class", "brier"):
    assert after[name] == pytest.approx(before[name], abs=1e-3)
  rows = (workdir / "metrics.jsonl").read_text().splitlines()
  steps = [json.loads(r)["step"] for r in rows if '"train"' in r]
  assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["", *CONFIGS["changes"]])
def test_its_configs_are_read(name):
  saved = json.loads(json.dumps(CONFIGS["default"]))
  for path, value in CONFIGS["changes"].get(name, {}).items():
    *parents, key = path.split(".")
    section = saved
    for parent in parents:
      section = section[parent]
    section[key] = value
  config = config_lib.from_saved(saved)
  config.data.path = config.data.path or "somewhere"
  config_lib.check_config(config)
  for path in ("model.experts", "data.image_size", "optimizer.lr"):
    section, key = path.split(".")
    assert config[section][key] == saved[section][key]
  # What is saved now is read as the same.
  again = config_lib.from_saved(config_lib.to_saved(config))
  assert again.to_json_best_effort() == config.to_json_best_effort()
