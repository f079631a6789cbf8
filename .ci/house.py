"""Measures the house: root, longest function, lines by room, tracked bytes.

python .ci/house.py

Prints the four and exits with 1 where one is beyond its bar. It stands beside
the program that calls it: nobody but the checks of a change needs it.
"""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtlmoe_jax"

MODULES_AT_ROOT = 6
LINES_OF_FUNCTION = 100
# The document of the defaults.
NO_FUNCTION = ("default_config",)
TRACKED_MB = 3.0


def main() -> int:
  """Prints the report; 1 where a bar is broken."""
  modules = sorted(path.name for path in PACKAGE.glob("*.py"))
  lines, name = max(functions())
  tracked = tracked_bytes() / 1e6
  rows = (
    (f"modules at the root: {len(modules)}", len(modules), MODULES_AT_ROOT),
    (f"longest function: {lines} lines, {name}", lines, LINES_OF_FUNCTION),
    (f"tracked at HEAD: {tracked:.2f} MB", tracked, TRACKED_MB),
  )
  for text, value, bar in rows:
    print(f"{text} (at most {bar}){'' if value <= bar else '  <- TOO MANY'}")
  rooms = lines_by_room()
  print(f"lines of the package: {sum(rooms.values())}")
  for room, count in sorted(rooms.items(), key=lambda item: -item[1]):
    print(f"  {room:12} {count:6}")
  return int(any(value > bar for _, value, bar in rows))


def functions() -> Iterator[tuple[int, str]]:
  """(lines without docstring, where) of each function of the package."""
  for path in PACKAGE.rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
      if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        continue
      if node.name not in NO_FUNCTION:
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        yield lines - _docstring_lines(node), where


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
  first = node.body[0]
  if ast.get_docstring(node) is None or first.end_lineno is None:
    return 0
  return first.end_lineno - first.lineno + 1


def lines_by_room() -> dict[str, int]:
  """Lines of Python under each folder of the package; "." is its root."""
  rooms: dict[str, int] = {}
  for path in PACKAGE.rglob("*.py"):
    room = path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else "."
    rooms[room] = rooms.get(room, 0) + len(path.read_text().splitlines())
  return rooms


def tracked_bytes() -> int:
  """Bytes of all files of the last commit."""
  listing = subprocess.run(
    ["git", "ls-tree", "-r", "-l", "HEAD"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  return sum(int(line.split()[3]) for line in listing.stdout.splitlines())


if __name__ == "__main__":
  sys.exit(main())
