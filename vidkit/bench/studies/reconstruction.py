"""Study "reconstruction": does pre-training on a larger set help to reconstruct a small one?

Open question 1 of arXiv 2308.01916. Each seed has one pre-training on the larger part. "pre-trained" is that one as
it is, "continued" goes on from its weights on the small part with a schedule of its own, "scratch" takes exactly
the steps of the continuation on the small part, and "scratch, all steps" the steps of both together, to the nearest
whole epoch. All have the same settings otherwise. "mean colour" has learnt nothing: it says what PSNR comes for
free.

Tested are clips of the small part that no arm was trained on. Every clip has one mask of its own, the same for all
arms and seeds: random tokens at the recipe's ratio, drawn from a fixed seed and the clip's number, since a learnt
sampler would give each arm an exam of its own. Larger and small: `parts.larger_and_small`.

Figures are of hidden patches alone, and means over clips: `loss` (the recipe's target and kind), `mse_pixels`
(pixel values in [0, 1]; predictions of normalised targets are put back with the true patch's mean and deviation)
and `psnr`, -10 log10 of each clip's `mse_pixels`, in dB.

Shapes: n clips, B batch, N tokens, V visible, M hidden, P values of a patch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from vidkit.bench.ablate.journal import check_split
from vidkit.bench.rows.specs import RECONSTRUCTION
from vidkit.bench.studies.parts import larger_and_small, write_part
from vidkit.bench.studies.work import Arm, ArmConfig, ArmPlan, Pretrained, Work, arm, seeded, steps_of_an_epoch
from vidkit.data.dataset import read_facts
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError, TrainingError
from vidkit.fewshot.evaluate import interval
from vidkit.files import write_whole
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import mask_seed, masked_indices, num_visible, random_subset, visible_mask
from vidkit.models.tokenizers import patchify, split_channels, to_unit
from vidkit.settings.model import ViTConfig
from vidkit.settings.train import PretrainConfig, ViewConfig
from vidkit.train.inference import choose_device, sampling_of, views_of

#: Of the masks in the test; no arm's own seed.
MASK_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Of the tested clips, in the order of the split: (n,) each."""

    clip_id: tuple[str, ...]
    mse_pixels: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64] | None
    """None where nothing was trained."""

    @property
    def psnr(self) -> npt.NDArray[np.float64]:
        """(n,), in dB: -10 log10 of the mean squared error, since pixel values reach from 0 to 1."""
        return -10 * np.log10(self.mse_pixels)

    def by_name(self) -> dict[str, npt.NDArray[np.float64]]:
        """Each figure (n,) under the name that rows have for it."""
        found = {"psnr": self.psnr, "mse_pixels": self.mse_pixels}
        return found if self.loss is None else {**found, "loss": self.loss}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan(ArmPlan):
    """The arms, and the folders of the two parts, which are datasets."""

    larger: Path
    small: Path


def prepare(work: Work) -> Plan:
    """Write the parts and plan the arms.

    Raises:
        ConfigError: the dataset cannot be divided; no clips to test on.
        TrainingError: the parts cannot be written, or are too small for a step.
    """
    one, other = larger_and_small(work.data)
    larger = write_part(work.data, one, work.out / "parts" / "larger")
    small = write_part(work.data, other, work.out / "parts" / "small")
    check_split(read_facts(small), work.split, small)
    config = work.settings.pretrain
    if work.split == config.data.split:
        raise ConfigError(
            f"split {work.split!r} is trained on, so it cannot be the test", field="--split", hint="choose another"
        )
    epochs = config.optim.epochs
    first, then = (steps_of_an_epoch(config, part) for part in (larger, small))
    whole = max(1, round(epochs * (first + then) / then))
    clips = [read_facts(part)["splits"] for part in (larger, small)]
    trained = config.data.split
    notes = (
        f"Larger part: {one}, {clips[0][trained]['ok']:,} clips in split {trained!r}, {epochs * first:,} steps. "
        f"Small part: {other}, {clips[1][trained]['ok']:,} clips, {epochs * then:,} steps of continuation; no clip "
        "is in both.",
        f"From scratch with all steps: {whole} epochs, {whole * then:,} steps, where pre-training and continuation "
        f"have {epochs * (first + then):,}.",
        f"Tested on {clips[1][work.split]['ok']:,} clips of the small part's split {work.split!r}, each under one "
        f"fixed random mask, the same for every arm and seed: {_shown(config)} tokens visible.",
    )
    return Plan(arms=_arms(work, whole), notes=notes, larger=larger, small=small)


def _shown(config: PretrainConfig) -> str:
    vit = config.model.encoder
    return f"{num_visible(vit.grid, config.model.mask.ratio)} of {vit.tokens}"


def _arms(work: Work, whole: int) -> tuple[Arm, ...]:
    found: list[Arm] = []
    for seed in work.seeds:
        same, long = seeded(work.settings.pretrain, seed), seeded(work.settings.pretrain, seed, whole)
        parts: dict[str, dict[str, PretrainConfig]] = {
            "pre-trained": {"pretrain": same},
            "continued": {"pretrain": same, "then": same},
            "scratch": {"then": same},
            "scratch, all steps": {"then": long},
            "mean colour": {},
        }
        for name in RECONSTRUCTION.arms:
            how: Any = parts[name]
            test = _views(work.settings.pretrain)
            found.append(
                arm(
                    ArmConfig(study="reconstruction", arm=name, seed=seed, split=work.split, test=test, **how),
                    work.recipe,
                )
            )
    return tuple(found)


def _views(config: PretrainConfig) -> ViewConfig:
    """One view, as the training saw clips."""
    return views_of({"stride": config.data.stride, "mode": config.data.mode})


def run(work: Work, plan: Plan, one: Arm) -> dict[str, Any]:
    """Fields of the arm's row. Raises VidkitError: the arm has failed."""
    config = one.config
    assert config.test is not None, "made by `prepare`"
    runs: dict[str, str] = {}
    steps = {"larger": 0, "small": 0}
    seconds = 0.0
    last: Pretrained | None = None
    if config.pretrain is not None:
        last = work.pretrained(config.pretrain, plan.larger)
        runs["larger"], steps["larger"], seconds = last.folder.as_posix(), last.steps, last.seconds
    if config.then is not None:
        last = work.pretrained(config.then, plan.small, last)
        runs["small"], steps["small"] = last.folder.as_posix(), last.steps
        seconds = last.seconds
    started = time.perf_counter()
    model = work.settings.pretrain.model
    visible = num_visible(model.encoder.grid, model.mask.ratio)
    workers = work.settings.pretrain.data.workers
    where = choose_device(None)
    if last is None:
        scores = score_clips(
            _mean_colour(model.encoder), plan.small, model.encoder, config, visible, workers, work.quiet
        )
    else:
        network = _network(last.checkpoint).to(where)
        scores = score_clips(
            _trained(network), plan.small, network.config.encoder, config, visible, workers, work.quiet
        )
    (work.out / one.folder).mkdir(parents=True, exist_ok=True)
    file = one.folder / "clips.parquet"
    write_scores(work.out / file, scores)
    metrics, half_widths = {}, {}
    for name, values in scores.by_name().items():
        metrics[name], half_widths[name] = interval(torch.from_numpy(values))
    return {
        "metrics": metrics,
        "half_widths": half_widths,
        "counts": {
            "clips": len(scores.clip_id),
            "steps on the larger part": steps["larger"],
            "steps on the small part": steps["small"],
            "visible": visible,
            "tokens": model.encoder.tokens,
        },
        "runs": {**runs, "clips": file.as_posix()},
        "seconds": {"arm": seconds + time.perf_counter() - started},
    }


def _network(checkpoint: Path) -> AdaMAE:
    model = checkpoints.build(checkpoints.load(checkpoint))
    if not isinstance(model, AdaMAE):
        raise ConfigError("the checkpoint holds no masked autoencoder", file=checkpoint)
    return model.eval()


#: (clips (B, C, frames, size, size), visible tokens (B, V)) -> squared error of pixels (B,), loss (B,) or None
Judge = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor | None]"]


def _trained(model: AdaMAE) -> Judge:
    device = next(model.parameters()).device

    def judge(video: Tensor, keep_BV: Tensor) -> tuple[Tensor, Tensor | None]:
        found = model.predict(video.to(device), keep_BV=keep_BV.to(device))
        hidden = found.error[0].numel() - keep_BV.shape[1]
        squares = (found.reconstruction - found.video).square().flatten(1).double().sum(dim=1)
        mse = squares / (hidden * model.config.encoder.patch_values)  # visible patches are the input, to the bit
        return mse.cpu(), (found.error.flatten(1).double().sum(dim=1) / hidden).cpu()

    return judge


def _mean_colour(vit: ViTConfig) -> Judge:
    def judge(video: Tensor, keep_BV: Tensor) -> tuple[Tensor, Tensor | None]:
        patches_BNPC = split_channels(to_unit(patchify(video, vit)), vit.channels)
        shown_BN = visible_mask(keep_BV, vit.tokens)
        weight_BN11 = shown_BN[:, :, None, None].double() / keep_BV.shape[1]
        colour_B11C = (patches_BNPC * weight_BN11).sum(dim=1, keepdim=True).mean(dim=2, keepdim=True)
        hidden_BM = masked_indices(keep_BV, vit.tokens)
        index = hidden_BM[:, :, None, None].expand(-1, -1, *patches_BNPC.shape[2:])
        errors = (patches_BNPC.double().gather(1, index) - colour_B11C).square()
        return errors.flatten(1).mean(dim=1), None

    return judge


def score_clips(
    judge: Judge, data: Path, vit: ViTConfig, config: ArmConfig, visible: int, workers: int, quiet: bool = True
) -> Scores:
    """Scores of every clip of the split, in its order.

    Raises:
        DatasetError: a clip that cannot be decoded.
        TrainingError: scores that are not finite.
    """
    assert config.test is not None
    sampling = sampling_of(vit, config.test)
    dataset = ClipDataset(
        data,
        config.split,
        frames=sampling.frames,
        stride=sampling.stride,
        mode=sampling.mode,
        training=False,
        size=sampling.size,
    )
    errors: list[Tensor] = []
    losses: list[Tensor] = []
    loader = ClipLoader(dataset, batch_size=config.test.batch_size, workers=workers)
    try:
        with Progress("reconstructing", len(dataset), quiet=quiet) as progress:
            for batch in loader:
                mse, loss = judge(batch.video, fixed_masks(batch.index.tolist(), vit.tokens, visible))
                errors.append(mse)
                losses += [] if loss is None else [loss]
                progress.advance(by=len(batch))
    finally:
        loader.close()
    found = Scores(
        clip_id=tuple(map(str, dataset.clips.clip_id)),
        mse_pixels=torch.cat(errors).numpy(),
        loss=torch.cat(losses).numpy() if losses else None,
    )
    for name, values in found.by_name().items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise TrainingError(f"{name} is not finite for {len(bad):,} clips: {dataset.clips.where(int(bad[0]))}")
    return found


def fixed_masks(clips: list[int], tokens: int, visible: int) -> Tensor:
    """The visible tokens of clips by their number, (B, V): they depend on nothing else."""
    like = torch.empty(1, 0)
    return torch.cat(
        [
            random_subset(like, tokens, visible, torch.Generator().manual_seed(mask_seed(MASK_SEED, clip, 0)))
            for clip in clips
        ]
    )


def write_scores(path: Path, scores: Scores) -> None:
    """A row a clip: clip_id and its figures."""
    table = pa.table({"clip_id": list(scores.clip_id), **scores.by_name()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes())
