"""Which checkpoint is read, and what it says of itself."""

import dataclasses

import jax.numpy as jnp
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import calibration, restore
from mtlmoe_jax.training import checkpointing
from mtlmoe_jax.training import state as state_lib
from tests.support import tiny


def test_choose_step():
  scores = {10: 0.5, 20: 0.9, 30: 0.9, 40: 0.7, 45: None}
  assert restore.choose_step("best", scores) == 30
  assert restore.choose_step("latest", scores) == 45
  assert restore.choose_step("20", scores) == 20
  assert restore.choose_step(40, scores) == 40
  assert restore.choose_step("best", {1: None, 2: None}) == 2


@pytest.mark.parametrize("step", ["25", 25, "newest", "-1"])
def test_choose_step_refuses(step):
  with pytest.raises(errors.InputError, match="10, 20"):
    restore.choose_step(step, {10: 0.5, 20: None})


def test_restore_needs_a_run(tmp_path):
  with pytest.raises(errors.InputError, match="no such workdir"):
    restore.restore_for_eval(tmp_path / "nowhere")
  with pytest.raises(errors.InputError, match="holds no checkpoints"):
    restore.restore_for_eval(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(errors.InputError, match="no checkpoint in"):
    restore.restore_for_eval(tmp_path)


def test_a_checkpoint_of_an_earlier_version_keeps_its_network(tmp_path):
  saved = config_lib.to_saved(tiny.config())
  del saved["version"]  # 0.1.0 wrote none
  saved["model"]["backbone"] = "efficientnet_lite0"
  count = jnp.zeros((), jnp.int32)
  state = state_lib.TrainState(count, count, {"a": jnp.ones(2)}, {}, {}, {})
  writer = checkpointing.Checkpointer(tmp_path)
  writer.save(state, {}, {"config": saved, "class_names": ["a"]}, None)
  writer.close()
  restored = restore.restore_for_eval(tmp_path)
  assert restored.config.model.backbone == "tf_efficientnet_lite0"


def test_a_run_is_known_by_its_checkpoints_folder_too(tmp_path, monkeypatch):
  count = jnp.zeros((), jnp.int32)
  state = state_lib.TrainState(count, count, {"a": jnp.ones(2)}, {}, {}, {})
  writer = checkpointing.Checkpointer(tmp_path)
  saved = config_lib.to_saved(tiny.config())
  writer.save(state, {}, {"config": saved, "class_names": ["a"]}, None)
  writer.close()
  folder = tmp_path / "checkpoints"
  assert restore.restore_for_eval(folder).workdir == tmp_path
  monkeypatch.chdir(folder)
  assert restore.restore_for_eval(".").workdir == tmp_path


def test_a_temperature_is_that_of_its_step_and_views(tmp_path):
  config = tiny.config()
  kept = calibration.Calibration(
    2.5, calibration.belongs_to(config, 3), tmp_path / "calibration.json"
  )
  restored = restore.Restored({}, config, ("a",), 3, {}, tmp_path, kept)
  assert restored.temperature == 2.5
  assert dataclasses.replace(restored, step=4).temperature is None
  assert dataclasses.replace(restored, calibration=None).temperature is None
  other = tiny.config(**{"eval.views": "flip"})
  assert dataclasses.replace(restored, config=other).temperature is None
