"""Every command by panel, and a group that imports a command's module only when that command is named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


class Entry(NamedTuple):
    """A command that was not imported yet."""

    module: str
    """Has `run`, whose signature is the options, whose docstring is the help, and which returns the exit code; and
    `EXAMPLE`, a command line."""
    about: str
    """First sentence of the help, as the list of commands shows it."""


#: In the order in which a dataset is made and used; `vidkit --help` shows the panels so.
PANELS: dict[str, dict[str, Entry]] = {
    "Datasets": {
        "build-dataset": Entry(
            "vidkit.cli.datasets.build_dataset",
            "Turn clips on disk into verified WebDataset shards, with a row for every clip that could not be used.",
        ),
        "verify": Entry(
            "vidkit.cli.datasets.verify",
            "Check a dataset against its own records (hashes, samples, frames, labels); exit 1 if one disagrees.",
        ),
        "inspect": Entry(
            "vidkit.cli.datasets.inspect",
            "Show what is in a dataset: counts, classes, lengths, sizes, failures.",
        ),
        "view": Entry(
            "vidkit.cli.datasets.view",
            "Look at datasets and runs in a browser: clips that play, failures, marks, curves, confusions, masks.",
        ),
        "synth": Entry(
            "vidkit.cli.datasets.synth",
            "Write generated clips in a dataset's real folder layout, with its real annotation files.",
        ),
    },
    "Training": {
        "pretrain": Entry(
            "vidkit.cli.training.pretrain", "Pre-train a masked autoencoder (AdaMAE) on a built dataset."
        ),
        "finetune": Entry(
            "vidkit.cli.training.finetune", "Train a classifier, from a pre-trained encoder or from scratch."
        ),
        "evaluate": Entry(
            "vidkit.cli.training.evaluate",
            "Accuracy of a fine-tuned model on a split: every clip counts once, or is named.",
        ),
        "masks": Entry(
            "vidkit.cli.training.masks",
            "Draw what a pre-trained model sees: video, prediction, error, probability and mask, row by row.",
        ),
        "predict": Entry(
            "vidkit.cli.training.predict",
            "The most probable classes of video files, by a fine-tuned model; exit 1 if one cannot be decoded.",
        ),
        "extract": Entry(
            "vidkit.cli.training.extract",
            "Write the features of every clip of a dataset, by a pre-trained or fine-tuned model.",
        ),
        "probe": Entry(
            "vidkit.cli.training.probe",
            "Accuracy of simple classifiers on a frozen encoder, layer by layer, beside random weights and pixels.",
        ),
        "convert": Entry(
            "vidkit.cli.training.convert",
            "Read a checkpoint of VideoMAE, AdaMAE or Hugging Face, or write ours in their layout.",
        ),
    },
    "Few-shot": {
        "episodes": Entry(
            "vidkit.cli.fewshot.episodes",
            "Draw few-shot episodes from a dataset, reproducibly, and write them as a list that others can use.",
        ),
        "fewshot": Entry(
            "vidkit.cli.fewshot.fewshot",
            "Accuracy on classes that were not seen in training, from a few labelled clips each, with 95 % "
            "intervals.",
        ),
    },
    "Benchmarks": {
        "ablate": Entry(
            "vidkit.cli.bench.ablate",
            "Pre-train, fine-tune and test every combination, and print a table; as typed, on generated clips.",
        ),
        "report": Entry(
            "vidkit.cli.bench.report",
            "Print the table of an ablation or a study: mean and 95 % interval over seeds, contrasts with a "
            "verdict each or each arm against the study's reference, and the paper's figures beside.",
        ),
        "bench": Entry("", "Measure parts of the way from shards to models."),
    },
    "This machine": {
        "doctor": Entry(
            "vidkit.cli.doctor", "Say what this machine has and lacks for vidkit, and what to do about it."
        ),
    },
}

#: Commands of `vidkit bench`.
BENCH: dict[str, dict[str, Entry]] = {
    "Commands": {
        "loader": Entry(
            "vidkit.cli.bench.loader",
            "Measure the loader: clips per second, and what share of a training step waits for data.",
        ),
        "regress": Entry(
            "vidkit.cli.bench.regress",
            "Has anything got worse: tokens, MACs, memory, shards, losses, and speed beside plain ways; 1 if so.",
        ),
    }
}


class Command(TyperCommand):
    """Shows its options by panel: few screens, each about one thing."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel that has options; hidden ones are left out."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            shown = param.get_help_record(ctx)
            if shown is None:
                continue
            kind = "Arguments" if param.param_type_name == "argument" else "Options"
            panels.setdefault(getattr(param, "rich_help_panel", None) or kind, []).append(shown)
        for title, rows in panels.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Commands(TyperGroup):
    """Knows names and first sentences; the modules come when they are needed."""

    panels: ClassVar[Mapping[str, Mapping[str, Entry]]] = PANELS

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        for commands in self.panels.values():
            for name in commands:  # stand-ins: what is near to a mistyped name is looked for among them
                self.commands[name] = TyperCommand(name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does; without any words, the help and exit code 2."""
        if not args:  # help is what was wanted, so it goes to stdout; the code says that nothing was done
            print(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        """typer's `--help`, with a default of its own."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # for None typer asks pydantic, which takes longer to import than all the rest
        return option

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, whose module is imported now; None: there is none."""
        for commands in self.panels.values():
            if cmd_name in commands:
                return load(cmd_name, commands[cmd_name])
        return None

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the panels."""
        return [name for commands in self.panels.values() for name in commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write names and first sentences, panel by panel; no command is imported."""
        width = max(map(len, self.list_commands(ctx)))
        for title, commands in self.panels.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.about) for name, entry in commands.items()])


class _Bench(Commands):
    panels = BENCH


def load(name: str, entry: Entry) -> Any:
    """The command itself; its module is imported."""
    if not entry.module:
        return _Bench(name=name, help=entry.about, rich_markup_mode=None)
    module = importlib.import_module(entry.module)
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command(name, cls=Command, epilog=f"\b\nExample:\n  {module.EXAMPLE}")(module.run)
    return typer.main.get_command(one)
