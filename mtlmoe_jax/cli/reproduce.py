"""Runs the poster's experiments again, with controls, and judges its claims.

  mtlmoe reproduce --suite=all --data=synthetic --seeds=3 \\
      --preset=cpu --workdir=runs/synthetic

Suites: exp1 (one expert or six), transfer, exp2 (one task or two; one, three or
six experts), experts (what sets experts apart), all of these, or pay (a map of
when experts pay). Data: synthetic, cub (CUB-200-2011) or cub10 (its first ten
classes), with --data.path; of pay synthetic or folder (train/CLASS/* and
test/CLASS/*, the class alone); transfer with cub10 starts from the classes in
--base_path. Started again it goes on where it
was stopped; started several times side by side (one for each core, GPU or host
with the same folder) the processes share the runs. --dry_run lists the runs and
what they cost. Writes a page (--out), its pictures, the page for a browser and
all numbers as JSON; from those alone, without any run, all is made again:

  mtlmoe reproduce --from=docs/experiments/cub10.json.xz --out=site/cub10.md
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", None, "Folder of the runs.")
  flags.DEFINE_string(
    "suite", None, "exp1, transfer, exp2, experts, all or pay."
  )
  flags.DEFINE_string("data", None, "cub, cub10 or synthetic; of pay folder.")
  flags.DEFINE_string(
    "preset",
    "cpu",
    "paper: the poster's setting, for a GPU; cpu: a smaller one, see "
    "docs/experiments.md.",
  )
  flags.DEFINE_integer("seeds", 3, "Runs of each variation.")
  flags.DEFINE_string("data.path", "", "Folder of the data set.")
  flags.DEFINE_string(
    "base_path",
    "",
    "For cub10: folder with train/CLASS/* and test/CLASS/* of other classes.",
  )
  flags.DEFINE_string(
    "pretrained",
    "",
    "Weights that experts start from, as config.model.pretrained, such as "
    "hf:timm/{backbone}.in1k; default: the preset's (cpu: lite, paper: none).",
  )
  flags.DEFINE_string(
    "gates",
    "pixels",
    "What gates know: pixels (the poster's) or, with --preset=cpu, informed.",
  )
  flags.DEFINE_string(
    "from", "", "Numbers of a page: makes the page again, runs nothing."
  )
  flags.DEFINE_bool(
    "pictures", True, "Of --from: draw; without, the page and its numbers."
  )
  flags.DEFINE_bool(
    "packed", False, "Numbers as NAME.json.xz, a quarter of the size."
  )
  flags.DEFINE_bool("dry_run", False, "List the runs, run nothing.")
  flags.DEFINE_string(
    "out",
    "",
    "Markdown page; default WORKDIR/experiments.md, of --from site/NAME.md.",
  )


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  if numbers := flags.FLAGS["from"].value:
    cli_flags.no_arguments(argv)
    from mtlmoe_jax.experiments import reproduce

    stem = pathlib.Path(numbers).name.split(".json")[0]
    return reproduce.publish_again(
      numbers,
      flags.FLAGS.out or f"site/{stem}.md",
      pictures=flags.FLAGS.pictures,
      packed=flags.FLAGS.packed,
    )
  workdir = pathlib.Path(cli_flags.required("workdir"))
  cli_flags.required("suite")
  cli_flags.required("data")
  cli_flags.no_arguments(argv)
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.experiments import reproduce

  options = reproduce.Options(
    **cli_flags.flag_values(
      *("suite", "data", "preset", "seeds", "data.path", "base_path"),
      *("pretrained", "gates"),
    )
  )
  out = flags.FLAGS.out or workdir / "experiments.md"
  return reproduce.run(
    options,
    workdir,
    out,
    dry_run=flags.FLAGS.dry_run,
    packed=flags.FLAGS.packed,
  )
