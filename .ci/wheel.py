"""The wheel as a user has it: its content, its command, its library.

python .ci/wheel.py DIST VENV      (what `make wheel-test` does)

Installs the wheel of DIST into the empty environment VENV: first beside JAX
alone, where the engine must run, then with all that it asks for. The examples
are the README's own.
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
HELP_SECONDS = 0.3
NEEDED = (
  "mtlmoe_jax/py.typed",
  "mtlmoe_jax/configs/demo.py",
  "mtlmoe_jax/configs/my_data.py",
  "mtlmoe_jax/reports/templates/style.css",
)
# Small models: they have to be trained, not to be good.
SMALL = (
  "steps=2",
  "data.image_size=32",
  "model.backbone=efficientnet_pico",
  "model.pretrained=",
  "model.norm=group",
)
TINY = ",".join(
  (
    *SMALL,
    "batch_size=6",
    "data.synthetic.classes=3",
    "data.synthetic.train_per_class=8",
    "data.synthetic.test_per_class=3",
    "data.synthetic.size=32",
    "model.shared_stages=0",
    "model.gate_input=pixels",
    "model.condense=pool",
    "model.gate_width=4",
    "optimizer.frozen=",
  )
)


def main(dist: str, venv: str) -> None:
  """Builds nothing: takes what is in DIST."""
  (wheel,) = pathlib.Path(dist).resolve().glob("*.whl")
  (source,) = pathlib.Path(dist).resolve().glob("*.tar.gz")
  check_content(wheel, source)
  scripts = pathlib.Path(venv).resolve() / "bin"
  pip = [scripts / "pip", "install", "--quiet", "--disable-pip-version-check"]
  with tempfile.TemporaryDirectory() as folder:
    run(folder, *pip, requirement(wheel, "jax"))
    run(folder, *pip, "--no-deps", wheel)
    run(folder, scripts / "python", "-c", "import mtlmoe_jax.moe")
    run(folder, scripts / "python", "-c", readme_block("apply_experts("))
    print("with JAX alone: the engine runs")
    run(folder, *pip, wheel)
    run(folder, scripts / "pip", "check")
    check_command(folder, scripts)
    check_library(folder, scripts)
    check_photographs(folder, scripts)


def check_content(wheel: pathlib.Path, source: pathlib.Path) -> None:
  """Refuses a wheel that lacks a file, or that has tests in it."""
  names = set(zipfile.ZipFile(wheel).namelist())
  package = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "mtlmoe_jax").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
  }
  configs = {f"mtlmoe_jax/configs/{p.name}" for p in ROOT.glob("configs/*.py")}
  missing = (package | configs | set(NEEDED)) - names
  assert not missing, f"not in the wheel: {sorted(missing)}"
  outside = {n for n in names if not n.startswith("mtlmoe_jax")}
  assert not outside, f"too much in the wheel: {sorted(outside)}"
  tests = sorted(n for n in names if "/tests/" in n)
  assert not tests, f"tests in the wheel: {tests}"
  with tarfile.open(source) as archive:
    inner = {n.partition("/")[2] for n in archive.getnames()}
  missing = (package | {"setup.py", "setup.cfg", "LICENSE"}) - inner
  missing |= {f"configs/{pathlib.Path(name).name}" for name in configs} - inner
  assert not missing, f"not in {source.name}: {sorted(missing)}"
  print(f"{wheel.name}: {len(names)} files; {source.name}: {len(inner)}")


def check_command(folder: str, scripts: pathlib.Path) -> None:
  """The command `mtlmoe`, its speed and one training."""
  command = scripts / "mtlmoe"
  seconds = []
  for _ in range(6):
    start = time.perf_counter()
    text = run(folder, command, "--help")
    seconds.append(time.perf_counter() - start)
  # The first one writes the compiled modules.
  median = statistics.median(seconds[1:])
  assert "train" in text
  assert median < HELP_SECONDS, f"mtlmoe --help takes {median:.2f} s"
  print(f"mtlmoe --help: {median:.3f} s, the median of five")
  print(run(folder, command, "--version").strip())


def check_library(folder: str, scripts: pathlib.Path) -> None:
  """Trains into the folder that the README's example loads, and runs it."""
  block = readme_block(".load(")
  (workdir,) = re.findall(r'\.load\("([^"]+)"', block)
  command = scripts / "mtlmoe"
  run(folder, command, "train", f"--config=demo:{TINY}", f"--workdir={workdir}")
  run(folder, command, "draw_samples", "--out=drawn", "--count=1")
  (picture,) = (pathlib.Path(folder) / "drawn").glob("*.png")
  names = re.findall(r'"([^"]+[.](?:jpg|png))"', block)
  program = (
    "from PIL import Image\n"
    f"for name in {names!r}:\n"
    f"  Image.open({str(picture)!r}).save(name)\n"
  )
  run(folder, scripts / "python", "-c", program)
  print(run(folder, scripts / "python", "-c", block).strip())
  print("the README's example runs")


def check_photographs(folder: str, scripts: pathlib.Path) -> None:
  """A folder named alone: what to install, then a model and its answers."""
  command = scripts / "mtlmoe"
  photographs = pathlib.Path(folder) / "photographs"
  run(folder, command, "draw_samples", f"--out={photographs}", "--count=10")
  for i, picture in enumerate(sorted(photographs.glob("*.png"))):
    picture.parent.joinpath("ab"[i % 2]).mkdir(exist_ok=True)
    picture.rename(picture.parent / "ab"[i % 2] / picture.name)
  run(folder, command, "check", "photographs")
  told = said(folder, command, "train", "photographs", code=2).stderr
  assert "pip install 'mtlmoe_jax[lite]'" in told, told
  options = [f"--config.{option}" for option in SMALL]
  told = said(folder, command, "train", "photographs", *options).stderr
  (line,) = re.findall(r"mtlmoe (evaluate .+)", told)
  run(folder, command, *line.split())
  run(folder, command, "predict", "runs/photographs", "photographs")
  assert (pathlib.Path(folder) / "runs/photographs/predictions").is_dir()
  print("mtlmoe train FOLDER: trains, evaluates, predicts")


def requirement(wheel: pathlib.Path, name: str) -> str:
  """What the wheel asks for of a package, such as `jax<0.12,>=0.10`."""
  archive = zipfile.ZipFile(wheel)
  (metadata,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
  text = archive.read(metadata).decode()
  (line,) = re.findall(rf"^Requires-Dist: ({name}[<>=!~ ].*)$", text, re.M)
  return str(line)


def readme_block(word: str) -> str:
  """The Python example of the README that has a word in it."""
  text = (ROOT / "README.md").read_text("utf-8")
  blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
  chosen = [block for block in blocks if word in block]
  assert chosen, f"README.md has no Python example with {word!r}"
  return str(chosen[0])


def run(folder: str, *command: object) -> str:
  """The output of a command that must succeed, run in a folder."""
  return said(folder, *command).stdout


def said(
  folder: str, *command: object, code: int = 0
) -> subprocess.CompletedProcess[str]:
  """All that a command says, run in a folder; it must end with the code."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  # The checkout must not be found by accident.
  environment.pop("PYTHONPATH", None)
  done = subprocess.run(
    [str(word) for word in command],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode != code:
    sys.exit(f"{done.stdout}{done.stderr}\nfailed: {command[0]} {command[1]}")
  return done


if __name__ == "__main__":
  main(*sys.argv[1:])
