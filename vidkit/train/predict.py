"""What a fine-tuned model sees in video files, which need not be in any dataset.

Shapes: S spatial views, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vidkit.data.load.sampling import Sampling
from vidkit.data.load.video_file import read_views
from vidkit.data.media.frames import listening
from vidkit.errors import ClipError, ConfigError, TrainingError
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.train import ViewConfig
from vidkit.train.inference import choose_device, open_classifier, sampling_of, views_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A class and how probable it is."""

    class_id: int
    """Label id where a clip can have several."""
    name: str
    score: float
    """Mean over the views of the softmax's probability, or of the sigmoid where a clip can have several labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePrediction:
    """What was found in one file, or why nothing was."""

    file: Path
    guesses: tuple[Guess, ...] = ()
    """Best first."""
    frames: tuple[tuple[int, ...], ...] = ()
    """Numbers of the frames that were looked at, for each temporal view."""
    warning: str | None = None
    """Damage that the decoder concealed."""
    error: str | None = None
    """A key of `errors.CLIP_ERRORS`."""
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Predictor:
    """A classifier with the names of its classes, ready for files."""

    model: VideoClassifier
    names: tuple[str, ...]
    views: ViewConfig
    multi: bool
    """Whether a clip can have several labels."""
    device: torch.device
    checkpoint: Path

    def __repr__(self) -> str:
        return f"Predictor({self.checkpoint}, {len(self.names)} classes, {self.device})"

    def files(self, files: Sequence[Path], *, top: int = 5) -> Iterator[FilePrediction]:
        """The `top` best classes of each file, in the order given. A file that cannot be used has an error.

        Raises:
            TrainingError: scores that are not finite.
        """
        sampling = sampling_of(self.model.config.encoder, self.views)
        for file in files:
            yield self._file(file, sampling, top)

    def _file(self, file: Path, sampling: Sampling, top: int) -> FilePrediction:
        with listening() as words:
            try:
                scores_K, frames = self._scores(file, sampling)
            except ClipError as error:
                return FilePrediction(file=file, error=error.code, message=error.message)
        warning = f"decoder reported {words.count} errors: {words.said[0]}" if words.count else None
        return FilePrediction(file=file, guesses=self._best(scores_K, top), frames=frames, warning=warning)

    def _scores(self, file: Path, sampling: Sampling) -> tuple[Tensor, tuple[tuple[int, ...], ...]]:
        total_K = torch.zeros(len(self.names), dtype=torch.float64)
        frames = []
        with torch.inference_mode():
            for view in read_views(file, sampling):
                logits_SK = self.model(view.video.to(self.device)).float()
                scores_SK = logits_SK.sigmoid() if self.multi else logits_SK.softmax(dim=1)
                total_K += scores_SK.sum(dim=0).cpu()
                frames.append(tuple(view.frames.tolist()))
        mean_K = total_K / (self.views.views[0] * self.views.views[1])
        if not mean_K.isfinite().all():
            raise TrainingError(f"the scores of {file} are not finite", file=self.checkpoint)
        return mean_K, tuple(frames)

    def _best(self, scores_K: Tensor, top: int) -> tuple[Guess, ...]:
        # stable: equal scores go by class id, whatever the machine
        scores, order = scores_K.sort(descending=True, stable=True)
        pairs = zip(order[:top].tolist(), scores[:top].tolist(), strict=True)
        return tuple(Guess(class_id=i, name=self.names[i], score=score) for i, score in pairs)


def open_predictor(
    checkpoint: Path,
    *,
    views: tuple[int, int] = (1, 1),
    stride: int | None = None,
    device: str | None = None,
) -> Predictor:
    """
    Args:
        views: temporal x spatial.
        stride: between frames of a file; None: the training's.
        device: None: the GPU if there is one.

    Raises:
        ConfigError: a checkpoint that is no classifier, or settings that cannot be.
    """
    loaded, model = open_classifier(checkpoint)
    where = choose_device(device)
    return Predictor(
        model.to(where).eval(),
        class_names(loaded, model.config.classes, checkpoint),
        views_of(loaded.facts, views=views, stride=stride),
        loaded.facts.get("rule") == "multi-hot",
        where,
        checkpoint,
    )


def class_names(loaded: Checkpoint, classes: int, checkpoint: Path) -> tuple[str, ...]:
    """Names by class id; numbers where the checkpoint, taken over from another project, has none.

    Raises:
        ConfigError: names for another number of classes.
    """
    names = tuple(loaded.facts.get("classes") or ())
    if not names:
        return tuple(f"class {i}" for i in range(classes))
    if len(names) != classes:
        raise ConfigError(
            f"the checkpoint names {len(names):,} classes, and its head has {classes:,}",
            file=checkpoint,
            field="classes",
            hint="take the checkpoint that `vidkit finetune` wrote",
        )
    return names
