"""Camtrap DP: what its tables say, and what is refused."""

import csv
import json
import re

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data.layouts import auto
from mtlmoe_jax.predicting import formats
from mtlmoe_jax.predicting.formats import camtrap_facts
from tests.support import camtrap_schemas, predicted

NO_CLASS = dict.fromkeys(("class", "class_index", "probability", "top5"))
PLACE = {"camtrap_location": "51.5,4.25"}


@pytest.fixture
def package(tmp_path, monkeypatch):
  """Writes a package of photographs; gives its tables by name."""
  monkeypatch.chdir(tmp_path)

  def write(rows, options=PLACE, **values):
    about = predicted.about(options=options, **values)
    (tmp_path / "out").mkdir(exist_ok=True)
    names = formats.write(
      "camtrap_dp", lambda: iter(rows), about, tmp_path / "out"
    )
    found = {}
    for name in names:
      path = tmp_path / "out" / name
      if path.suffix == ".json":
        found[path.stem] = json.loads(path.read_text("utf-8"))
        continue
      with open(path, encoding="utf-8", newline="") as file:
        found[path.stem] = list(csv.DictReader(file))
    return found

  return write


def table(path, text):
  path.write_text(text, encoding="utf-8")
  return str(path)


def shown(row):
  """Cells that are not empty."""
  return {key: value for key, value in row.items() if value}


def test_a_photograph(package, tmp_path):
  predicted.photograph(tmp_path / "photos/st 1/100/x.jpg", zone="+02:00")
  found = package([predicted.row("photos/st 1/100/x.jpg", 1)])
  (deployment,) = found["deployments"]
  time = "2026-05-31T14:03:07+02:00"
  assert shown(deployment) == {
    **{"deploymentID": "st 1", "latitude": "51.5", "longitude": "4.25"},
    **{"deploymentStart": time, "deploymentEnd": time},
  }
  (medium,) = found["media"]
  assert shown(medium) == {
    **{"mediaID": "st 1/100/x.jpg", "filePath": "st 1/100/x.jpg"},
    **{"deploymentID": "st 1", "timestamp": time, "filePublic": "false"},
    **{"fileName": "x.jpg", "fileMediatype": "image/jpeg"},
  }
  (observation,) = found["observations"]
  assert shown(observation) == {
    **{"observationID": "o1", "deploymentID": "st 1"},
    **{"mediaID": "st 1/100/x.jpg", "eventStart": time, "eventEnd": time},
    **{"observationLevel": "media", "observationType": "animal"},
    **{"scientificName": "quail, common", "count": "1"},
    **{"bboxX": "0.25", "bboxY": "0.1"},
    **{"bboxWidth": "0.5", "bboxHeight": "0.5"},
    **{"classificationMethod": "machine", "classifiedBy": predicted.MODEL},
    "classificationTimestamp": predicted.TIME,
    "classificationProbability": "0.75",
  }
  written = found["datapackage"]
  assert written["created"] == predicted.TIME
  assert written["temporal"] == {"start": "2026-05-31", "end": "2026-05-31"}
  assert written["taxonomic"] == [{"scientificName": "quail, common"}]
  assert written["spatial"] == {"type": "Point", "coordinates": [4.25, 51.5]}


def test_columns_are_those_of_the_standard_in_its_order(package, tmp_path):
  package([])
  for name, schema in camtrap_schemas.TABLES.items():
    with open(tmp_path / f"out/camtrap_dp/{name}.csv") as file:
      header = next(csv.reader(file))
    assert header == [field["name"] for field in schema["fields"]]


def test_objects_of_a_detector(package, tmp_path):
  path = "photos/a/x.jpg"
  predicted.photograph(tmp_path / path)
  rows = [
    predicted.detected(path),
    predicted.detected(path, category="person", confidence=0.5),
    predicted.detected(path, category="vehicle"),
    predicted.detected(path, **NO_CLASS),
    predicted.row(path, detection=None),
    predicted.row(path, **NO_CLASS),
    predicted.row(path, **{"class": "Empty"}),
  ]
  found = package(rows, has_detections=True)["observations"]
  assert [o["observationType"] for o in found] == [
    *("animal", "human", "vehicle", "animal", "blank", "unclassified"),
    "blank",
  ]
  assert found[0]["scientificName"] == "wren"
  assert not any(o["scientificName"] for o in found[1:])
  assert found[1]["classificationProbability"] == "0.5"
  assert found[4]["bboxX"] == found[6]["bboxX"] == ""
  assert len({o["observationID"] for o in found}) == len(found)


def test_frames_have_their_own_times(package, tmp_path):
  times = table(
    tmp_path / "t.csv", "file,timestamp\na/film.mp4,2026-01-01T10:00:00Z\n"
  )
  rows = [predicted.frame(0), predicted.frame(250)]
  found = package(rows, {**PLACE, "camtrap_times": times}, has_frames=True)
  (medium,) = found["media"]
  assert medium["fileMediatype"] == "video/mp4"
  assert [o["eventStart"] for o in found["observations"]] == [
    *("2026-01-01T10:00:00Z", "2026-01-01T10:00:10Z")
  ]
  (deployment,) = found["deployments"]
  assert deployment["deploymentEnd"] == "2026-01-01T10:00:10Z"


def test_what_tells_no_time_is_left_out_and_said(package, tmp_path, capsys):
  predicted.photograph(tmp_path / "photos/a/x.jpg")
  predicted.photograph(tmp_path / "photos/a/none.jpg", taken="")
  rows = [
    predicted.row("photos/a/x.jpg"),
    predicted.row("photos/a/none.jpg"),
    predicted.failed(),
  ]
  found = package(rows)
  assert len(found["media"]) == len(found["observations"]) == 1
  lines = capsys.readouterr().err
  assert "tell no time: a/none.jpg; give times in camtrap_times" in lines
  assert "could not be read and tell no time: a/bad.jpg" in lines


def test_a_zone_that_nobody_tells_is_marked(package, tmp_path, capsys):
  predicted.photograph(tmp_path / "photos/a/x.jpg")
  rows = [predicted.row("photos/a/x.jpg")]
  found = package(rows)
  assert found["media"][0]["timestamp"] == "2026-05-31T14:03:07Z"
  assert found["deployments"][0]["timestampIssues"] == "true"
  assert "camtrap_timezone" in capsys.readouterr().err
  for zone in ("Europe/Berlin", "+02:00", "+0200", "+02"):
    found = package(rows, {**PLACE, "camtrap_timezone": zone})
    assert found["media"][0]["timestamp"] == "2026-05-31T14:03:07+02:00"
    assert found["deployments"][0]["timestampIssues"] == ""
  assert capsys.readouterr().err == ""


def test_what_the_user_says_of_deployments_and_names(package, tmp_path):
  predicted.photograph(tmp_path / "photos/a/x.jpg")
  predicted.photograph(tmp_path / "photos/b/y.jpg", "2026-06-02 01:00:00")
  options = {
    "camtrap_deployments": table(
      tmp_path / "d.csv",
      "\ufefflatitude, longitude,deploymentID,habitat,deploymentStart,mine\n"
      "10,20,a,wood,2026-05-01T00:00:00Z,x\n11.5,21,b,,,\n",
    ),
    "camtrap_names": table(
      tmp_path / "n.csv",
      "class,scientificName,observationType\nwren,Troglodytes troglodytes,\n"
      '"quail, common",,unknown\n',
    ),
    "camtrap_timezone": "UTC",
    "camtrap_package": table(
      tmp_path / "p.json",
      json.dumps(
        {
          "title": "Mine",
          "project": {"title": "P", "samplingDesign": "simpleRandom"},
          "resources": [],
        }
      ),
    ),
  }
  rows = [predicted.row("photos/a/x.jpg"), predicted.row("photos/b/y.jpg", 1)]
  found = package(rows, options)
  first, second = found["deployments"]
  assert (first["habitat"], second["habitat"]) == ("wood", "")
  assert first["deploymentStart"] == "2026-05-01T00:00:00Z"
  assert second["latitude"] == "11.5" and "mine" not in first
  wren, quail = found["observations"]
  assert wren["scientificName"] == "Troglodytes troglodytes"
  assert wren["observationTags"] == "class:wren"
  assert quail["observationType"] == "unknown" and not quail["scientificName"]
  written = found["datapackage"]
  assert written["title"] == "Mine" and len(written["resources"]) == 3
  assert written["project"]["captureMethod"] == ["activityDetection"]
  assert written["project"]["samplingDesign"] == "simpleRandom"
  assert written["spatial"]["coordinates"][0][0] == [20.0, 10.0]


def test_paths_are_as_the_standard_wants_them(package, tmp_path):
  names = ("photos/x..y/a.jpg", "photos/.hidden.jpg", "elsewhere/b.jpg")
  for name in names:
    predicted.photograph(tmp_path / name)
  found = package([predicted.row(name) for name in names])["media"]
  pattern = camtrap_schemas.MEDIA["fields"][4]["constraints"]["pattern"]
  for medium in found:
    assert re.match(pattern, medium["filePath"])
    assert medium["filePath"].startswith("file:///")
  assert [m["deploymentID"] for m in found] == ["x..y", "photos", "elsewhere"]


def test_our_own_reader_reads_it(package, tmp_path):
  for name in ("a/x.jpg", "b/y.jpg"):
    predicted.photograph(tmp_path / "photos" / name)
  rows = [
    predicted.row(
      "photos/a/x.jpg", box=predicted.corners(0.25, 0.1, 0.75, 0.6)
    ),
    predicted.row("photos/b/y.jpg", 1),
  ]
  package(rows)
  for path in (tmp_path / "out/camtrap_dp").iterdir():
    path.rename(tmp_path / "photos" / path.name)
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax.data.readers.problems import Problems

  data = config_lib.default_config().data
  read = auto.open_layout(
    data, "auto", str(tmp_path / "photos"), "", True, Problems(), "boxes"
  ).source
  assert list(read.class_names) == ["quail, common", "wren"]
  assert read.upright(0)[1].tolist() == pytest.approx([0.25, 0.1, 0.75, 0.6])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({}, "latitude and longitude of each deployment, none is given of a"),
    ({"camtrap_location": "51.5"}, "must be LATITUDE,LONGITUDE"),
    ({"camtrap_location": "91,4"}, "latitude '91' must be degrees"),
    ({"camtrap_location": "x,4"}, "latitude 'x' must be degrees"),
    ({**PLACE, "camtrap_timezone": "Mars"}, "camtrap_timezone=Mars"),
    ({**PLACE, "camtrap_timezone": "+99"}, r"camtrap_timezone=\+99"),
    ({**PLACE, "camtrap_timezone": "../x"}, "camtrap_timezone="),
    ({**PLACE, "camtrap_times": "no.csv"}, "camtrap_times=no.csv"),
    ({"camtrap_deployments": "t.csv"}, "no column deploymentID, latitude"),
    ({**PLACE, "camtrap_times": "t.csv"}, "time 'noon': must be"),
    ({**PLACE, "camtrap_names": "n.csv"}, "observationType 'bird' of wren"),
    ({**PLACE, "camtrap_package": "t.csv"}, "camtrap_package=t.csv: is no"),
  ],
)
def test_what_is_refused(options, message, package, tmp_path):
  predicted.photograph(tmp_path / "photos/a/x.jpg")
  table(tmp_path / "t.csv", "file,timestamp\na/x.jpg,noon\n")
  table(
    tmp_path / "n.csv", "class,scientificName,observationType\nwren,,bird\n"
  )
  with pytest.raises(errors.InputError, match=message) as raised:
    package([predicted.row("photos/a/x.jpg")], options)
  assert "\n" not in str(raised.value)


def test_it_is_refused_before_the_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  predicted.photograph(tmp_path / "photos/a/none.jpg", taken="")
  ids = ["photos/a/none.jpg", "photos/b/gone.jpg"]
  foresee = formats.foresee
  with pytest.raises(errors.InputError, match="none is given of a, b"):
    foresee(["camtrap_dp"], ids, predicted.about())
  with pytest.raises(errors.InputError, match="no image tells when"):
    foresee(["camtrap_dp"], ids, predicted.about(options=PLACE))
  predicted.photograph(tmp_path / "photos/b/gone.jpg")
  foresee(["camtrap_dp"], ids, predicted.about(options=PLACE))


@pytest.mark.parametrize(
  "value", ["0000:00:00 00:00:00", "", "noon", "\0" * 19]
)
def test_cameras_whose_clock_was_not_set(value, tmp_path):
  path = tmp_path / "x.jpg"
  predicted.photograph(path)
  data = path.read_bytes().replace(
    b"2026:05:31 14:03:07", value.encode().ljust(19, b"\0")
  )
  path.write_bytes(data)
  assert camtrap_facts.taken(str(path)) is None


def test_other_signs_between_the_numbers(tmp_path):
  path = tmp_path / "x.jpg"
  predicted.photograph(path)
  data = path.read_bytes().replace(b"2026:05:31 14:03", b"2026-05-31T14:03")
  path.write_bytes(data)
  assert str(camtrap_facts.taken(str(path))) == "2026-05-31 14:03:07"
