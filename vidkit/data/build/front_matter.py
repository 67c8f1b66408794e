"""The head of a dataset card: YAML that tells the Hugging Face hub, and `datasets`, what lies in the folder.

With the types written down, nothing is guessed from the first samples, where a column may hold only nulls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vidkit.data.tables import LEDGER_SCHEMA, SAMPLE, SPLITS

#: The hub's own words for how large a dataset is: below so many samples.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

_LICENSE = "# license: which licence the clips are under is yours to say; https://huggingface.co/docs/hub/repositories-licenses"


def front_matter(facts: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> str:
    """The YAML between the card's two lines of dashes, with a last line break.

    Args:
        facts: dataset.json of a finished build.
        shards: shards.json. Splits without a shard are left out: there is nothing to load.
    """
    splits = [split for split in SPLITS if any(shard["split"] == split for shard in shards)]
    head: dict[str, Any] = {
        "pretty_name": facts["title"] or facts["name"],
        "size_categories": [_size(facts["counts"]["ok"])],
        "task_categories": ["video-classification"],
        "tags": [
            "video",
            "action-recognition",
            "webdataset",
            "vidkit",
            *(["synthetic"] if facts["synthetic"] else []),
        ],
    }
    if splits:
        head["configs"] = [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}/*.tar"} for split in splits],
            }
        ]
        head["dataset_info"] = {"features": features(facts["label_map"])}
    return f"{_LICENSE}\n{_yaml(head)}"


def _yaml(value: object) -> str:
    """One line for each value, so that no text can be taken for the end of the head."""
    import yaml

    def represent(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')

    dumper: Any = type("Dumper", (yaml.SafeDumper,), {})  # of our own: representers are kept by class
    dumper.add_representer(str, represent)
    written: str = yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True, width=2**31)
    return written


def features(label_map: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns as `datasets` reads a shard: the clip, what its JSON holds, its key and its shard.

    Clips stay bytes: `Video(decode=True)`, which `datasets` takes for mp4 by itself, cannot be read without
    torchcodec.
    """
    multi_hot = label_map["rule"] == "multi-hot"
    ids = {"multi_hot": label_map["base_labels"]} if multi_hot else {"class_id": label_map["classes"]}
    fields = [{"name": name, **_type(LEDGER_SCHEMA.field(name).type, ids.get(name))} for name in SAMPLE]
    return [
        {"name": "mp4", "dtype": {"video": {"decode": False}}},
        {"name": "json", "struct": fields},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def _type(of: pa.DataType, names: Sequence[str] | None) -> dict[str, Any]:
    if pa.types.is_list(of):
        inner = _type(of.value_type, names)
        return {"list": inner if names else inner["dtype"]}
    if names:  # the keys are texts because the hub wants them so
        return {"dtype": {"class_label": {"names": {str(i): name for i, name in enumerate(names)}}}}
    return {"dtype": "float64" if pa.types.is_float64(of) else str(of)}


def _size(samples: int) -> str:
    return next((words for below, words in _SIZES if samples < below), "n>10M")
