"""Which recipe a command works by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place
    from vidkit.settings import Recipe


def recipe_named(name: str) -> Recipe:
    """
    Raises:
        ConfigError: there is none of that name.
    """
    from vidkit.settings import RECIPES

    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}", field="--recipe", hint="choose " + ", ".join(RECIPES))
    return RECIPES[name]()


def fitting(data: Place) -> str:
    """The name of the recipe that fits the clips of the dataset at `data`."""
    from vidkit.data.dataset import open_dataset

    return default_recipe(open_dataset(data).facts)


def default_recipe(facts: dict[str, Any]) -> str:
    """The name of the recipe that fits a dataset's clips, from its dataset.json."""
    if facts.get("synthetic"):
        return "tiny"
    if int(facts["settings"]["encode.size"]) <= 96:
        return "small-64"
    return "adamae-k400" if facts["flip"] else "adamae-ssv2"
