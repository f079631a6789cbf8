"""Starting a run from another run: every parameter that fits is taken over."""

from typing import Any

from mtlmoe_jax import errors
from mtlmoe_jax.training import checkpoint
from mtlmoe_jax.training import optimizer as optim

# The one layer whose shape depends on the classes.
REPLACEABLE = "tower_class/"


def transfer(
  variables: dict[str, Any], restored: checkpoint.Restored
) -> tuple[dict[str, Any], str]:
  """Copies a finished run's parameters and statistics into a new model.

  The class tower's output layer stays new when the number of classes differs;
  towers and gates of tasks that the other run did not have stay new.

  Args:
    variables: the new model's initial variables.
    restored: what `checkpoint.restore_for_eval` read.

  Returns:
    (variables, one line that says what was taken and what is new).

  Raises:
    InputError: an expert, condense or stem parameter is missing there or has
      another shape.
  """
  out, wrong, new, taken = {}, [], [], 0
  for collection in ("params", "batch_stats"):
    source = optim.flatten(restored.variables[collection])
    target = optim.flatten(variables.get(collection, {}))
    for name, value in target.items():
      found = source.get(name)
      if found is not None and found.shape == value.shape:
        target[name], taken = found, taken + 1
      elif name.startswith(REPLACEABLE) or (
        found is None and name.startswith(("gate", "tower", "log_variance"))
      ):
        new.append(name)
      else:
        there = "missing" if found is None else f"{tuple(found.shape)} there"
        wrong.append(f"{name} {tuple(value.shape)} ({there})")
    out[collection] = optim.unflatten(target)
  if wrong:
    shown = "; ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
    raise errors.InputError(
      f"config.transfer.source: {len(wrong)} parameters of that run do not fit "
      f"this model: {shown}. Use the same config.model there and here"
    )
  return out, f"took {taken} arrays; new: {', '.join(sorted(new)) or 'none'}"
