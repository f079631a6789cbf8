"""Where and how figures were measured: machine, versions, settings, commit."""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess

from mtlmoe_jax import version

_FOLDER = pathlib.Path(__file__).resolve().parent
_PACKAGES = (
  "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "flax", "optax",
  "grain", "numpy", "pillow", "simplejpeg", "opencv-python-headless", "torch",
  "timm", "torchvision",
)  # fmt: skip
_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
# What may differ between figures of one page; it is told of each.
_FREE = ("commit", "date")


def describe(args: argparse.Namespace) -> dict[str, str]:
  """What a figure measured now, here, with these flags depends on."""
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  return {
    "processor": f"{_processor()}, {os.cpu_count()} CPUs, {memory:.0f} GiB",
    "GPU": gpu_name() or "none",
    "system": f"{platform.system()} {platform.release()}, Python "
    f"{platform.python_version()}",
    "large pages": _PAGES.read_text().strip() if _PAGES.exists() else "none",
    "versions": _versions(),
    "precision": args.precision,
    "threads": str(args.threads),
    "shapes": "tiny (--small)" if args.small else "full",
    "commit": commit(),
    "date": datetime.date.today().isoformat(),
  }


def difference(one: dict[str, str], other: dict[str, str]) -> str:
  """The first thing that must not differ and does: its key; "" if none.

  A package that only one of them lists does not count: `_PACKAGES` grows.
  """
  for key in {**one, **other}:
    here, there = one.get(key), other.get(key)
    if key == "versions" and here and there:
      here, there = _packages(here), _packages(there)
      here, there = {**here, **there}, {**there, **here}
    if key not in _FREE and here != there:
      return key
  return ""


def commit() -> str:
  """Of the working tree, "-dirty" if it differs; "unknown" outside git."""
  told = _output(
    "git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"
  )
  return told or "unknown"


def gpu_name() -> str:
  """Name and driver of the first NVIDIA GPU; "" without one."""
  if not shutil.which("nvidia-smi"):
    return ""
  told = _output(
    "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"
  )
  return told.splitlines()[0] if told else ""


def _versions() -> str:
  told = [f"mtlmoe_jax {version.__version__}"]
  for name in _PACKAGES:
    try:
      told.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
      continue
  return ", ".join(told)


def _packages(versions: str) -> dict[str, str]:
  return dict(entry.rsplit(" ", 1) for entry in versions.split(", "))


def _processor() -> str:
  cpus = pathlib.Path("/proc/cpuinfo")
  for line in cpus.read_text().splitlines() if cpus.exists() else ():
    if line.startswith("model name"):
      return line.partition(":")[2].strip()
  return platform.processor() or platform.machine()


def _output(*command: str) -> str:
  done = subprocess.run(
    command, capture_output=True, text=True, cwd=_FOLDER, check=False
  )
  return done.stdout.strip() if done.returncode == 0 else ""
