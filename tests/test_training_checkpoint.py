import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.training import checkpoint


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
