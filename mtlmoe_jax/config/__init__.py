"""Every option, its default, its reason; and the checks on their values.

A config is a locked `ml_collections.ConfigDict`. The files in `configs/` start
from `default_config()` and change what they need; `check_config` is called
once, by whatever takes a config from a user.
"""

from mtlmoe_jax.config.checks import (
  check_best,
  check_config,
  check_dispatch,
  check_mixup,
  is_drawn,
)
from mtlmoe_jax.config.defaults import (
  OPTIONS,
)
from mtlmoe_jax.config.names import (
  closest,
)
from mtlmoe_jax.config.option import (
  Option,
  WrongTypeError,
)
from mtlmoe_jax.config.overrides import (
  apply_arm,
  apply_overrides,
  flat_keys,
  keep,
  set_path,
)
from mtlmoe_jax.config.saved import (
  from_saved,
  to_saved,
  update_from_dict,
)
from mtlmoe_jax.config.tree import (
  Options,
  UnknownOptionError,
  default_config,
)
from mtlmoe_jax.config.typed import (
  Resolved,
  expert_counts,
  k_of,
  resolve,
  tasks_of,
)
from mtlmoe_jax.config.words import (
  CLASSIFIERS,
  COMPUTES,
  CONDENSES,
  CONTROLS,
  DATA_NAMES,
  DISPATCHES,
  EVAL_STEPS,
  EXTRA_NAMES,
  GATE_INPUTS,
  GATE_STARTS,
  GATES,
  MOE_GATES,
  MOE_GROUPS,
  NOISE_SCHEDULES,
  NORMS,
  OPTIMIZERS,
  PRECISIONS,
  ROUTERS,
  SCHEDULES,
  SELECTS,
  SPLIT_SCHEMES,
  TASKS,
  TOKEN_GATES,
  VIEWS,
  WEIGHTINGS,
)

# Short names, for `mtlmoe_jax.config.default()` and `.override(config, "k=3")`.
default = default_config
override = apply_overrides

__all__ = [
  "CLASSIFIERS",
  "COMPUTES",
  "CONDENSES",
  "CONTROLS",
  "DATA_NAMES",
  "DISPATCHES",
  "EVAL_STEPS",
  "EXTRA_NAMES",
  "GATES",
  "GATE_INPUTS",
  "GATE_STARTS",
  "MOE_GATES",
  "MOE_GROUPS",
  "NOISE_SCHEDULES",
  "NORMS",
  "OPTIMIZERS",
  "OPTIONS",
  "PRECISIONS",
  "ROUTERS",
  "SCHEDULES",
  "SELECTS",
  "SPLIT_SCHEMES",
  "TASKS",
  "TOKEN_GATES",
  "VIEWS",
  "WEIGHTINGS",
  "Option",
  "Options",
  "Resolved",
  "UnknownOptionError",
  "WrongTypeError",
  "apply_arm",
  "apply_overrides",
  "check_best",
  "check_config",
  "check_dispatch",
  "check_mixup",
  "closest",
  "default",
  "default_config",
  "expert_counts",
  "flat_keys",
  "from_saved",
  "is_drawn",
  "k_of",
  "keep",
  "override",
  "resolve",
  "set_path",
  "tasks_of",
  "to_saved",
  "update_from_dict",
]
