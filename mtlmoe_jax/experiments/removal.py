"""A trained model without one of its experts, not trained again.

Letters: N experts.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

# Far below any other logit, and far enough from the end of float32 for the
# temperature, the bias of the selection and the sums of `routing`.
_NEVER = -1e30


def without_expert(
  variables: Mapping[str, Any], expert: int, shared: int = 0
) -> dict[str, Any] | None:
  """Variables with which no gate gives an expert any weight.

  The logit's bias is set far below all others: the expert comes last in every
  selection and its softmax is 0, so that the others share its weight as the
  gate's kind has it. Where a gate must select all N, it is selected with
  weight 0.

  Args:
    variables: {"params", "batch_stats"} of a whole model, left as they are.
    expert: 0 ... N - 1, but for the shared ones.
    shared: how many of the first ones gates do not choose from.

  Returns:
    The same but for the gates' biases; None where nothing can be removed: gates
    without parameters, or a single expert.

  Raises:
    IndexError: there is no such expert.
  """
  params = dict(variables["params"])
  gates = [
    name
    for name in params
    if name.split("_")[0] == "gate" and "logits" in params[name]
  ]
  for name in gates:
    logits = params[name]["logits"]
    routed = len(logits["bias"])
    if not shared <= expert < shared + routed:
      raise IndexError(f"expert {expert}: there are {shared + routed}")
    if routed == 1:
      return None
    # Arrays do not change in place, so what is around them is copied.
    bias = jnp.asarray(logits["bias"]).at[expert - shared].set(_NEVER)
    params[name] = {**params[name], "logits": {**logits, "bias": bias}}
  return {**variables, "params": params} if gates else None
