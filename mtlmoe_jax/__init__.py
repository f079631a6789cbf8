"""Multi-task mixture-of-experts image models in JAX/Flax.

  import mtlmoe_jax as mm

  model = mm.load("runs/demo")
  for p in model.predict(["a.jpg", "b.jpg"]):
    print(p.id, p.label, p.probability)

`load`, `train` and `evaluate` (see `api`) are the library; `config` has its
options. The mixture-of-experts engine is of use on its own; these names are its
stable interface: `apply_experts`, `apply_stacked`, `choose_strategy`,
`Results`, `ragged_mlp`, the gates `dense_routing`, `noisy_top_k_routing`,
`top_k_routing`, `joint_routing` and their result `Routing`. The other names are
modules, loaded when they are used first.
"""

from typing import TYPE_CHECKING

from mtlmoe_jax.utils import lazy
from mtlmoe_jax.version import __version__

if TYPE_CHECKING:
  from mtlmoe_jax import (
    api,
    checkpoints,
    config,
    data,
    errors,
    evaluation,
    metrics,
    models,
    moe,
    ops,
    pretrained,
    training,
  )
  from mtlmoe_jax.api import (
    Evaluation,
    Model,
    Prediction,
    Result,
    evaluate,
    load,
    train,
  )
  from mtlmoe_jax.errors import InputError
  from mtlmoe_jax.moe.engine import (
    Results,
    apply_experts,
    apply_stacked,
    choose_strategy,
  )
  from mtlmoe_jax.moe.ragged import ragged_mlp
  from mtlmoe_jax.moe.routing import (
    Routing,
    dense_routing,
    joint_routing,
    noisy_top_k_routing,
    top_k_routing,
  )

__all__ = [
  "Evaluation",
  "InputError",
  "Model",
  "Prediction",
  "Result",
  "Results",
  "Routing",
  "__version__",
  "api",
  "apply_experts",
  "apply_stacked",
  "checkpoints",
  "choose_strategy",
  "config",
  "data",
  "dense_routing",
  "errors",
  "evaluate",
  "evaluation",
  "joint_routing",
  "load",
  "metrics",
  "models",
  "moe",
  "noisy_top_k_routing",
  "ops",
  "pretrained",
  "ragged_mlp",
  "top_k_routing",
  "train",
  "training",
]

# Where a name comes from.
_NAMES = {
  "Evaluation": "api",
  "InputError": "errors",
  "Model": "api",
  "Prediction": "api",
  "Result": "api",
  "evaluate": "api",
  "load": "api",
  "train": "api",
  "apply_experts": "moe.engine",
  "apply_stacked": "moe.engine",
  "choose_strategy": "moe.engine",
  "Results": "moe.engine",
  "ragged_mlp": "moe.ragged",
  "dense_routing": "moe.routing",
  "noisy_top_k_routing": "moe.routing",
  "top_k_routing": "moe.routing",
  "joint_routing": "moe.routing",
  "Routing": "moe.routing",
}
_MODULES = (
  *("api", "checkpoints", "config", "data", "errors", "evaluation"),
  *("metrics", "models", "moe", "ops", "pretrained", "training"),
)

# On first use: `--help` and the version should not wait for JAX.
__getattr__, __dir__ = lazy.members(__name__, _MODULES, _NAMES)
