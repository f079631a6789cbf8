"""Large memory pages for what XLA allocates on a Linux CPU.

XLA:CPU takes its temporary memory anew for every call, and touching it first in
pages of 4 KiB costs a good part of a training step (how much:
`python benchmarks/train_step.py --only huge_pages`). glibc (2.35 or newer) asks
the kernel for pages of 2 MiB, but only if it is told so before the process
starts.
"""

import os
import pathlib
import platform
import sys
from collections.abc import Mapping

TUNABLE = "glibc.malloc.hugetlb"
_KERNEL = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def setting(environ: Mapping[str, str], kernel: str, libc: str) -> str | None:
  """The value of GLIBC_TUNABLES to start with, or None to leave all as it is.

  Args:
    environ: the environment; what it says of the tunable stands.
    kernel: content of the kernel's file, such as "always [madvise] never".
    libc: name of the C library.
  """
  tunables = environ.get("GLIBC_TUNABLES", "")
  if libc != "glibc" or "[madvise]" not in kernel or TUNABLE in tunables:
    return None
  return ":".join(filter(None, (tunables, f"{TUNABLE}=1")))


def restart_with_huge_pages() -> None:
  """Starts this very command again with large pages, where that helps.

  The process keeps its number, arguments and files. Does nothing where glibc or
  the kernel cannot, or where GLIBC_TUNABLES names the tunable already
  (`glibc.malloc.hugetlb=0` turns it off).
  """
  if not _KERNEL.is_file():
    return
  value = setting(os.environ, _KERNEL.read_text(), platform.libc_ver()[0])
  if value is not None:
    sys.stdout.flush()
    sys.stderr.flush()
    environ = {**os.environ, "GLIBC_TUNABLES": value}
    os.execve(sys.executable, sys.orig_argv, environ)
