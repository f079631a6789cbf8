"""Virtual devices, for programs that compile and do not run."""

import os
import sys


def restart_with(devices: int) -> None:
  """Starts this program again with so many, unless it has them already.

  Their number is fixed when JAX starts, so this comes first.

  Args:
    devices: how many, all of this CPU.
  """
  flag = f"--xla_force_host_platform_device_count={devices}"
  before = os.environ.get("XLA_FLAGS", "")
  if flag not in before.split():
    os.environ.update(XLA_FLAGS=f"{before} {flag}", JAX_PLATFORMS="cpu")
    os.execv(sys.executable, sys.orig_argv)
