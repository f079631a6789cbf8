"""The journal: what is there after a kill is taken, and nothing else."""

import datetime
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.predicting import journal

KEYS = [f"photo {i}" for i in range(6)]
SIGNATURES = ["1"] * 6
ROWS = [
  {"id": key, "value": i / 3, "text": "é\n" * i} for i, key in enumerate(KEYS)
]


def opened(out, keys=KEYS, signatures=SIGNATURES, about=None):
  return journal.Journal(out, keys, signatures, about or {"model": 1})


def test_rows_come_back_in_the_order_of_items(tmp_path):
  with opened(tmp_path) as kept:
    assert kept.done == 0 and list(kept.rows()) == []
    kept.append([(4, ROWS[4]), (1, ROWS[1])])
    assert [kept.has(i) for i in range(6)] == [0, 1, 0, 0, 1, 0]
    assert list(kept.rows()) == [ROWS[1], ROWS[4]]
  with opened(tmp_path) as kept:
    assert kept.done == 2
    # Items may come and go between two starts.
    kept.append([(0, ROWS[0])])
  with opened(tmp_path, KEYS[::-1][:5]) as kept:
    assert list(kept.rows()) == [ROWS[4], ROWS[1]]
    kept.remove()
  assert not list(tmp_path.iterdir())


def test_a_row_about_a_file_that_changed_is_not_taken(tmp_path):
  with opened(tmp_path) as kept:
    kept.append(list(enumerate(ROWS)))
  with opened(tmp_path, signatures=["1", "2", "1", "1", "", "1"]) as kept:
    assert [i for i in range(6) if not kept.has(i)] == [1, 4]
    kept.append([(1, {"id": "new"})])
    assert [row["id"] for row in kept.rows()] == [
      *("photo 0", "new", "photo 2", "photo 3", "photo 5"),
    ]


def test_rows_of_another_prediction_are_not_taken(tmp_path):
  with opened(tmp_path) as kept:
    kept.append([(0, ROWS[0])])
  with opened(tmp_path, about={"model": 2}) as kept:
    assert kept.done == 0 and kept.discarded
  with opened(tmp_path, about={"model": 2}) as kept:
    assert not kept.discarded


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_wherever_it_is_cut_whole_rows_are_left(tmp_path_factory, data):
  out = tmp_path_factory.mktemp("cut")
  with opened(out) as kept:
    kept.append(list(enumerate(ROWS)))
  file = out / journal.FOLDER / "rows.jsonl"
  text = file.read_bytes()
  cut = data.draw(st.integers(0, len(text)))
  rubbish = data.draw(st.sampled_from([b"", b"\0\0", b"[1", b'["a", "b"]\n']))
  file.write_bytes(text[:cut] + rubbish)
  whole = text[:cut].count(b"\n")
  if cut and rubbish and not text[:cut].endswith(b"\n"):
    pass  # the half line and the rubbish are cut together
  with opened(out) as kept:
    assert list(kept.rows()) == ROWS[:whole]
    missing = [i for i in range(6) if not kept.has(i)]
    kept.append([(i, ROWS[i]) for i in missing])
    assert list(kept.rows()) == ROWS
  with opened(out) as kept:
    assert list(kept.rows()) == ROWS


def test_a_row_that_is_no_json_is_a_fault_not_a_line(tmp_path):
  with opened(tmp_path) as kept, pytest.raises(ValueError, match="JSON"):
    kept.append([(0, {"value": float("nan")})])
  with opened(tmp_path) as kept:
    assert kept.done == 0


def test_about_is_readable(tmp_path):
  with opened(tmp_path, about={"model": 1}):
    pass
  text = (tmp_path / journal.FOLDER / "about.json").read_text()
  found = json.loads(text)
  assert found["about"] == {"model": 1}
  with opened(tmp_path, about={"model": 1}) as kept:
    assert kept.begun == found["begun"]
    assert datetime.datetime.fromisoformat(kept.begun).tzinfo
