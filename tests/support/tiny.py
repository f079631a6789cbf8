"""The smallest real run, shared by the tests of training and launching."""

import os
import pathlib
import subprocess
import sys

from mtlmoe_jax import config as config_lib
from tests.support import forks

ROOT = pathlib.Path(__file__).resolve().parents[2]

OVERRIDES = {
  "batch_size": 6,
  "steps": 8,
  "data.image_size": 32,
  "data.synthetic.classes": 3,
  "data.synthetic.train_per_class": 8,
  "data.synthetic.test_per_class": 3,
  "data.synthetic.size": 32,
  "data.validation_fraction": 0.2,
  "model.backbone": "efficientnet_pico",
  "model.experts": 3,
  "model.k": "2",
  "model.norm": "group",
  "model.condense_dim": 16,
  "model.tower_dim": 16,
  "model.gate_width": 4,
  "optimizer.ema": 0.9,
  "optimizer.warmup_epochs": 0.5,
  "log.every_steps": 2,
  "eval.batch_size": 4,
}


def config(**overrides):
  """The tiny config; keys with dots as {"model.k": "1"} via `**{...}`."""
  made = config_lib.default_config()
  for key, value in {**OVERRIDES, **overrides}.items():
    config_lib.set_path(made, key, value)
  return made


def get_config(arg=""):
  """This file is a config file too: --config=tests/support/tiny.py."""
  return config_lib.apply_overrides(config(), arg)


def environment(**extra: str) -> dict[str, str]:
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    # This file is a config of theirs, too, and takes its neighbours along.
    "PYTHONPATH": str(ROOT),
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    **extra,
  }


def launch(script: str, *arguments: str, **extra: str):
  """Runs launch/<script> to its end, as a user does."""
  return subprocess.run(
    [sys.executable, str(ROOT / "launch" / script), *arguments],
    cwd=ROOT,
    env=environment(**extra),
    capture_output=True,
    text=True,
    timeout=400,
  )


def quick_launch(script: str, *arguments: str):
  """The same by a process that has the package's imports behind it."""
  command = [str(ROOT / "launch" / script), *arguments]
  return forks.run(command, ROOT, environment())


def quick_start(script: str, *arguments: str, log: pathlib.Path):
  """The process of such a script, which goes on; all it says is in `log`."""
  command = [str(ROOT / "launch" / script), *arguments]
  return forks.start(command, ROOT, environment(), log, log)


def run_on_devices(
  devices: int, program: str, *arguments: str, seconds: float = 400
) -> str:
  """What a Python program prints on so many virtual devices."""
  flags = f"--xla_force_host_platform_device_count={devices}"
  got = forks.run(
    ["-c", program, *arguments],
    ROOT,
    environment(XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {flags}"),
    seconds,
  )
  assert got.returncode == 0, got.stderr
  return got.stdout
