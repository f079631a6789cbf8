r"""Writes a trained model, or one expert's backbone, as a .safetensors file.

  mtlmoe export --workdir=runs/first --out=first.safetensors
  mtlmoe export --workdir=runs/first --expert=0 --names=timm \
      --out=expert0.safetensors

The first is everything a checkpoint knows: all parameters (averaged where an
average is kept) and statistics, and in the file's metadata, under
`mtlmoe_jax`, config, class names and preprocessing as JSON. The second is a
whole backbone without classifier, in timm's names for its network with
num_classes=0. Either can start a new run as config.model.pretrained.

--prune drops experts that the gates chose for no image of the validation split
(of the training split, where nothing is held out), if outputs stay equal. Where
gates give all of these images the same weights and an expert is its condense
layer alone, it folds all into one network without gates.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from mtlmoe_jax import errors
from mtlmoe_jax.cli import flags as cli_flags

# As `pretrained.export.NAMES`.
NAMES = ("ours", "timm")
# What of a checkpoint's own record goes with the file.
FACTS = (
  "config",
  "class_names",
  "tasks",
  "preprocessing",
  "box_format",
  "step",
  "versions",
)


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", "", "Folder of the run (required).")
  flags.DEFINE_string("out", "", "The .safetensors file to write (required).")
  cli_flags.define_step()
  flags.DEFINE_integer(
    "expert", None, "Write only the backbone of this expert, counted from 0."
  )
  flags.DEFINE_bool(
    "prune",
    False,
    "Leave out experts that the gates never choose; fold constant gates.",
  )
  flags.DEFINE_string("data.path", "", "Of --prune: where the data set is now.")
  flags.DEFINE_enum(
    "names", "ours", NAMES, "Names of the arrays; timm needs --expert."
  )


def main(argv: Sequence[str]) -> None:
  """Flags -> one file."""
  cli_flags.no_arguments(argv)
  workdir = cli_flags.required("workdir")
  out = pathlib.Path(cli_flags.required("out"))
  if out.suffix != ".safetensors":
    raise errors.InputError(f"--out={out}: must end with .safetensors")
  expert, names = flags.FLAGS.expert, flags.FLAGS.names
  if names == "timm" and expert is None:
    raise errors.InputError(
      "--names=timm: timm has no mixtures of experts; add --expert=0"
    )
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax import pretrained
  from mtlmoe_jax.checkpoints import restore
  from mtlmoe_jax.pretrained import export

  restored = restore.restore_for_eval(workdir, flags.FLAGS.step)
  meta = restored.meta
  if flags.FLAGS.prune:
    restored = _pruned(restored)
    meta = {**meta, "config": config_lib.to_saved(restored.config)}
  backbone = restored.config.model.backbone
  facts = {name: meta[name] for name in FACTS}
  facts["backbone"] = backbone
  if expert is None:
    arrays = export.whole_model(restored.variables)
  else:
    facts["expert"] = expert
    arrays = export.one_backbone(restored.variables, expert, backbone, names)
  pretrained.save_safetensors(out, arrays, export.metadata(facts))
  print(f"{len(arrays)} arrays of step {restored.step}: {out}")


def _pruned(restored: Any) -> Any:
  """The checkpoint without what its gates do not need."""
  from mtlmoe_jax.evaluation import evaluate, folding, pruning

  held_out = restored.config.data.validation_fraction > 0
  split = "validation" if held_out else "train"
  path = flags.FLAGS["data.path"].value or ""
  _, data = evaluate.open_split(restored, split, data_path=path)
  source = getattr(data, split)
  total = restored.config.model.experts
  folded = folding.fold(restored, source)
  if folded is not None:
    print(
      f"the gates give all {folded.images} {split} images the same weights: "
      f"folded {total} experts into one network without gates: "
      f"{folded.saved}"
    )
    return folded.restored
  found = pruning.prune(restored, source)
  if not found.dropped:
    print(f"all {total} experts are chosen by the {split} images: none dropped")
    return restored
  names = ", ".join(map(str, found.dropped))
  print(
    f"dropped experts {names} of {total}, which none of {found.images} {split} "
    f"images chose: {found.saved}"
  )
  return found.restored
