"""What every plan of a dispatch promises."""

import jax
import numpy as np
import pytest

from mtlmoe_jax.moe import buffers

make_plan = jax.jit(
  buffers.make_plan, static_argnames=("num_experts", "capacity")
)


def check_plan(plan, experts_per_task, num_experts, slots, valid):
  """Everything a plan promises, told by a naive loop over pairs."""
  wanted = {e: [] for e in range(num_experts)}
  depth = max(e.shape[1] for e in experts_per_task)
  for rank in range(depth):
    for image in np.flatnonzero(valid):
      for experts in experts_per_task:
        if rank < experts.shape[1]:
          expert = int(experts[image, rank])
          if image not in wanted[expert]:
            wanted[expert].append(int(image))
  assert plan.images.shape == plan.mask.shape == (num_experts, slots)
  for expert, images in wanted.items():
    held = np.asarray(plan.images[expert])[np.asarray(plan.mask[expert])]
    assert held.tolist() == images[:slots]
    assert not np.any(np.diff(np.asarray(plan.mask[expert], int)) > 0)
  for task, experts in enumerate(experts_per_task):
    lost = 0
    for image, row in enumerate(experts):
      for j, expert in enumerate(row):
        served = bool(valid[image]) and image in wanted[expert][:slots]
        assert bool(plan.kept[task][image, j]) == served
        lost += bool(valid[image]) and not served
        if served:
          slot = int(plan.slots[task][image, j])
          assert int(plan.images[expert, slot]) == image
    total = max(int(np.sum(valid)) * experts.shape[1], 1)
    assert float(plan.dropped[task]) == pytest.approx(lost / total)
