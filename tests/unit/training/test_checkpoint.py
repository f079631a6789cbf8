import jax.numpy as jnp
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.training import checkpoint
from mtlmoe_jax.training import state as state_lib
from tests.support import tiny


def test_choose_step():
  scores = {10: 0.5, 20: 0.9, 30: 0.9, 40: 0.7, 45: None}
  assert checkpoint.choose_step("best", scores) == 30
  assert checkpoint.choose_step("latest", scores) == 45
  assert checkpoint.choose_step("20", scores) == 20
  assert checkpoint.choose_step(40, scores) == 40
  assert checkpoint.choose_step("best", {1: None, 2: None}) == 2


@pytest.mark.parametrize("step", ["25", 25, "newest", "-1"])
def test_choose_step_refuses(step):
  with pytest.raises(errors.InputError, match="10, 20"):
    checkpoint.choose_step(step, {10: 0.5, 20: None})


def test_restore_needs_a_run(tmp_path):
  with pytest.raises(errors.InputError, match="no such workdir"):
    checkpoint.restore_for_eval(tmp_path / "nowhere")
  with pytest.raises(errors.InputError, match="holds no checkpoints"):
    checkpoint.restore_for_eval(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(errors.InputError, match="no checkpoint in"):
    checkpoint.restore_for_eval(tmp_path)


def test_a_checkpoint_of_an_earlier_version_keeps_its_network(tmp_path):
  saved = config_lib.to_saved(tiny.config())
  del saved["version"]  # 0.1.0 wrote none
  saved["model"]["backbone"] = "efficientnet_lite0"
  count = jnp.zeros((), jnp.int32)
  state = state_lib.TrainState(count, count, {"a": jnp.ones(2)}, {}, {}, {})
  writer = checkpoint.Checkpointer(tmp_path)
  writer.save(state, {}, {"config": saved, "class_names": ["a"]}, None)
  writer.close()
  restored = checkpoint.restore_for_eval(tmp_path)
  assert restored.config.model.backbone == "tf_efficientnet_lite0"
