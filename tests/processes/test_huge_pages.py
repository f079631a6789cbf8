import subprocess
import sys

import pytest

from mtlmoe_jax.devices import huge_pages

ON = f"{huge_pages.TUNABLE}=1"
OFF = f"{huge_pages.TUNABLE}=0"
MADVISE = "always [madvise] never\n"


@pytest.mark.parametrize(
  ("tunables", "kernel", "libc", "wanted"),
  [
    (None, MADVISE, "glibc", ON),
    ("", MADVISE, "glibc", ON),
    ("glibc.malloc.arena_max=2", MADVISE, "glibc", f"{{}}:{ON}"),
    (ON, MADVISE, "glibc", None),
    (OFF, MADVISE, "glibc", None),
    (None, "[always] madvise never", "glibc", None),
    (None, "always madvise [never]", "glibc", None),
    (None, MADVISE, "", None),
  ],
)
def test_setting(tunables, kernel, libc, wanted):
  environ = {} if tunables is None else {"GLIBC_TUNABLES": tunables}
  got = huge_pages.setting(environ, kernel, libc)
  assert got == (wanted and wanted.format(tunables))


def test_the_command_runs_once_with_its_arguments(tmp_path):
  kernel = tmp_path / "enabled"
  kernel.write_text(MADVISE)
  script = tmp_path / "script.py"
  script.write_text(
    "import os, pathlib, platform, sys\n"
    "from mtlmoe_jax.devices import huge_pages\n"
    f"huge_pages._KERNEL = pathlib.Path({str(kernel)!r})\n"
    "platform.libc_ver = lambda: ('glibc', '2.36')\n"
    "print('start', os.getpid())\n"
    "huge_pages.restart_with_huge_pages()\n"
    "print(os.environ['GLIBC_TUNABLES'], sys.argv[1:])\n"
  )
  got = subprocess.run(
    [sys.executable, script, "a b", "--c=d"],
    capture_output=True,
    text=True,
    check=True,
    env={"PATH": ""},
  ).stdout.splitlines()
  # The first start, the second one under the same number, and one result.
  assert got[0].startswith("start") and got[0] == got[1]
  assert got[2:] == [f"{ON} ['a b', '--c=d']"]
