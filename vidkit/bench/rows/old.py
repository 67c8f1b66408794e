"""Results of schema 1, in which a grid and a study had schemas of their own, and of 2, as those of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidkit.bench.rows.schema import SCHEMA

#: In `kind` of a study's row and plan.
_STUDY = "vidkit-study"

_CELL = ("kind", "visible", "tokens", "parameters", "forward_macs", "training_macs", "paper")
_PARTS = ("pretrain", "finetune", "test")


def row(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A row as plain values. What is damaged stays so: the check of the schema speaks of it.

    Raises:
        KeyError, TypeError, AttributeError: a field that every row of schema 1 has is missing, or of another kind.
    """
    made = dict(plain)
    if made["schema"] == 2:  # all that came later has a default
        return {**made, "schema": SCHEMA}
    made["schema"] = SCHEMA
    if made.pop("kind", None) == _STUDY:
        made["plan"] = _arm(made["plan"], made.pop("study"), None)
        seconds = made.pop("seconds", None)
        made["seconds"] = {} if seconds is None else {"arm": seconds}
        made["found"] = dict(made.get("found", {}))
        for name in ("finetune_loss", "predictions_sha256"):  # of the study mask-ratio
            if name in made["found"]:
                made[name] = made["found"].pop(name)
        return made
    made["plan"] = _cell(made["plan"])
    clips = made.pop("clips", None)
    made["counts"] = {} if clips is None else {"clips": clips}
    seconds = {name: made.pop(f"{name}_s", None) for name in _PARTS}
    made["seconds"] = {name: value for name, value in seconds.items() if value is not None}
    return made


def plan(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A plan as plain values: of ablation.json or study.json. Raises as `row` does."""
    made = dict(plain)
    if made["schema"] == 2:
        return {**made, "schema": SCHEMA}
    made["schema"] = SCHEMA
    if made.pop("kind", None) == _STUDY:
        recipe = made.pop("recipe")
        made["planned"] = [_arm(arm, made["study"], recipe) for arm in made.pop("arms")]
    else:
        made["planned"] = [_cell(cell) for cell in made.pop("cells")]
    return made


def _cell(planned: Mapping[str, Any]) -> dict[str, Any]:
    of_run = {"seed": planned["cell"].get("seed", 0)}
    of_cell: dict[str, Any] = {"settings": planned["cell"]}
    for name, value in planned.items():
        if name != "cell":
            (of_cell if name in _CELL else of_run)[name] = value
    return {**of_run, "cell": of_cell}


def _arm(planned: Mapping[str, Any], study: Any, recipe: Any) -> dict[str, Any]:
    of_run = {"group": planned["arm"], "recipe": recipe}
    of_arm = {"study": study, "name": planned["arm"]}
    for name, value in planned.items():
        if name != "arm":
            (of_arm if name in ("about", "quoted") else of_run)[name] = value
    return {**of_run, "arm": of_arm}
