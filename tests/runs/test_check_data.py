"""check_data as users start it."""

import json

from tests.support import layouts, tiny


def test_everything_that_is_asked_for_is_written(tmp_path):
  root = layouts.make_cub(tmp_path / "cub")
  out = tmp_path / "out"
  arguments = [
    "--data.name=cub",
    f"--data.path={root}",
    f"--page={out}/page.html",
    f"--json={out}/records.json",
    f"--fix={out}",
    "--nolabels",
  ]
  done = tiny.quick_launch("check_data.py", *arguments)
  assert done.returncode == 0, done.stderr
  assert len(json.loads((out / "records.json").read_text())) == 5
  assert len((out / "images.csv").read_text().splitlines()) == 1 + 5
  assert "--labels looks for them" in (out / "page.html").read_text("utf-8")
  assert f"{out}/images.csv: 5 of 5 records" in done.stdout
  # The list that is there is told before anything is decoded.
  done = tiny.quick_launch("check_data.py", *arguments)
  assert done.returncode == 2
  assert "is there already" in done.stderr
  assert "class" not in done.stdout
