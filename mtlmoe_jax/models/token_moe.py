"""Which blocks of a ViT a config turns into V-MoE layers.

Riquelme et al., "Scaling Vision with Sparse Mixture of Experts" (NeurIPS 2021).
"""

import ml_collections
from flax.core import FrozenDict

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones import Backbone
from mtlmoe_jax.models.backbones.vit import TokenMoE, ViTSizes


def token_moe(
  config: ml_collections.ConfigDict, backbone: Backbone
) -> TokenMoE | None:
  """The V-MoE layers of `config.model.token_moe`, None without any.

  They are in the shared stem: experts that hold mixtures of experts would be
  stacks [N, ...] of stacks, routed twice.

  Args:
    config: the whole config, checked.
    backbone: its backbone.

  Raises:
    InputError: a backbone without token MLPs, or blocks that it does not have
      or that are in the experts.
  """
  options = config.model.token_moe.to_dict()
  text = options.pop("blocks")
  if not text:
    return None
  key, sizes = f"config.model.token_moe.blocks={text!r}", backbone.sizes
  if not isinstance(sizes, ViTSizes):
    raise InputError(
      f"{key}: {backbone.name} has no tokens, use a backbone vit_*"
    )
  blocks = block_numbers(text, sizes.depth)
  if not blocks or blocks[-1] >= sizes.depth:
    raise InputError(
      f"{key}: {backbone.name} has the blocks 0 ... {sizes.depth - 1}"
    )
  unit = sizes.unit_of_block(blocks[-1])
  if unit > config.model.shared_stages:
    raise InputError(
      f"{key}: block {blocks[-1]} is inside of the experts; share it with "
      f"config.model.shared_stages={unit} or more"
    )
  return TokenMoE(blocks, FrozenDict(options))


def block_numbers(text: str, depth: int) -> tuple[int, ...]:
  """Numbers of blocks, ascending.

  Args:
    text: "every:N" (each Nth block), "last:N" (the last N of every second
      block, as the paper has it) or numbers such as "9,11".
    depth: number of blocks of the network.
  """
  word, _, count = text.partition(":")
  if word == "every":
    return tuple(range(int(count) - 1, depth, int(count)))
  if word == "last":
    return tuple(range(1, depth, 2))[-int(count) :]
  return tuple(sorted({int(number) for number in text.split(",")}))
