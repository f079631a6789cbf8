"""check_data as a command: what it writes and what it refuses."""

from tests.support import layouts, tiny


def test_the_split_is_written_and_leakage_needs_groups(tmp_path):
  root, split = tmp_path / "data", tmp_path / "split.csv"
  for i in range(12):
    path = root / "ab"[i % 2] / f"s{i // 4}" / f"{i:02d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(layouts.encode(layouts.picture(i, 60, 60)))
  flags = ("check_data.py", "--data.name=folder", f"--data.path={root}")
  done = tiny.quick_launch(
    *flags, "--data.group_by=folder", f"--split_out={split}"
  )
  assert done.returncode == 0, done.stderr
  rows = [row.split(",") for row in split.read_text().splitlines()]
  assert rows[0] == ["part", "id", "group"]
  assert [row[1] for row in rows[1:3]] == ["a/s0/00.jpg", "a/s0/02.jpg"]
  assert rows[2][2] == "a/s0/00.jpg"
  assert sum(row[0] == "test" for row in rows) == 4
  done = tiny.quick_launch(*flags, "--leakage")
  assert done.returncode == 2
  assert "group_by is empty" in done.stderr
  assert "Traceback" not in done.stderr
