"""Findings as files: a page, the same as one HTML file, pictures, data."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.suite import markdown, webpage
from mtlmoe_jax.reports.suite import page as story
from mtlmoe_jax.reports.suite.document import Document, Text
from mtlmoe_jax.reports.suite.findings import (
  Answer,
  Claim,
  Curve,
  Findings,
  Measured,
  Row,
)
from mtlmoe_jax.utils import files


def publish(findings: Findings, out: pathlib.Path) -> list[pathlib.Path]:
  """Writes all files, the page last.

  Args:
    findings: what the pages tell.
    out: the page in Markdown, DIR/STEM.md. Beside it come STEM.html,
      STEM.json (see `read`) and STEM_<picture>.svg and .png.

  Returns:
    The files.
  """
  document = story.document(findings)
  written, drawn = [], {}
  for picture in document.pictures:
    for kind in ("svg", "png"):
      data = plots.render(picture.draw, *picture.size, kind=kind)
      if kind == "svg":
        drawn[picture.name] = data
      written.append(out.with_name(f"{out.stem}_{picture.name}.{kind}"))
      files.write_bytes(written[-1], data)
  data, whole = out.with_suffix(".json"), out.with_suffix(".html")
  files.write_json(data, dataclasses.asdict(_lean(findings)))
  files.write_text(whole, webpage.page(document, drawn))
  files.write_text(out, markdown_page(document, out.stem))
  return [*written, data, whole, out]


def markdown_page(document: Document, stem: str) -> str:
  """The page in Markdown, with what lies beside it.

  Args:
    document: of `story.document`.
    stem: name of all files.
  """
  beside = Text(
    f"The same as one file: [{stem}.html]({stem}.html); all figures as data: "
    f"[{stem}.json]({stem}.json)."
  )
  document = dataclasses.replace(document, blocks=(*document.blocks, beside))
  return markdown.page(document, stem)


def _lean(findings: Findings) -> Findings:
  """Without the gates' weights of each image: large, and on no page."""
  experts = {
    name: [
      {k: v for k, v in study.items() if k != "weights"} for study in found
    ]
    for name, found in findings.experts.items()
  }
  return dataclasses.replace(findings, experts=experts)


def read(path: pathlib.Path) -> Findings:
  """The findings that `publish` wrote as JSON.

  What was NaN or infinite is NaN; the studies' `weights` are not there.
  """
  found = _numbers(json.loads(pathlib.Path(path).read_text("utf-8")))
  return Findings(
    **found
    | {
      "facts": tuple(found["facts"]),
      "rows": tuple(_row(row) for row in found["rows"]),
      "claims": tuple(_claim(claim) for claim in found["claims"]),
      "answers": _answers(found["answers"]),
    }
  )


def _numbers(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _numbers(of) for key, of in value.items()}
  if isinstance(value, list):
    return [_numbers(of) for of in value]
  return math.nan if value is None else value


def _row(row: Mapping[str, Any]) -> Row:
  return Row(
    **row
    | {
      "figures": {
        name: Measured(**of | {"per_seed": tuple(of["per_seed"])})
        for name, of in row["figures"].items()
      },
      "wilson": {name: tuple(of) for name, of in row["wilson"].items()},
      "curves": {
        name: Curve(**{key: np.asarray(v, float) for key, v in of.items()})
        for name, of in row["curves"].items()
      },
    }
  )


def _answers(answers: list[Mapping[str, Any]]) -> tuple[Answer, ...]:
  return tuple(
    Answer(
      **answer
      | {
        "counts": tuple(map(tuple, answer["counts"])),
        "p_values": tuple(answer["p_values"]),
      }
    )
    for answer in answers
  )


def _claim(claim: Mapping[str, Any]) -> Claim:
  both = {key: _answers(claim[key]) for key in ("answers", "controls")}
  return Claim(**claim | both)
