"""Options of gates that do not go together."""

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from tests.support import tiny


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"gate": "expert_choice"}, "other images of its batch.*token_moe"),
    ({"gate": "soft"}, "other images of its batch; use noisy_top_k"),
    ({"gate_temperature": 0.0}, "gate_temperature=0.0: must be above 0"),
    ({"gate_noise": -1.0}, "gate_noise=-1.0: must be 0"),
    ({"gate_noise_schedule": "step"}, "one of constant, linear, cosine"),
    (
      {"gate_noise_schedule": "linear", "gate_noise_end": 2.0},
      "gate_noise_end=2.0: must be from 0 to model.gate_noise=1.0",
    ),
    ({"bias_rate": -0.1}, "bias_rate=-0.1: must be 0"),
    ({"select": "both"}, "one of separate, joint"),
    ({"select": "joint", "k": "2,1"}, "k='2,1'.*same k for every task"),
  ],
)
def test_bad_options_are_named(options, message):
  config = tiny.config(**{f"model.{k}": v for k, v in options.items()})
  with pytest.raises(errors.InputError, match=message) as error:
    config_lib.check_config(config)
  assert "\n" not in str(error.value)
