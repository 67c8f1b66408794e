"""Study "mask-ratio": a classification head trained with and without masking.

Open question 2 of arXiv 2308.01916. Each seed has one pre-training, whose encoder all its arms take. They differ in
`finetune.mask_ratio` alone: that share of the tokens is dropped at random in each training step, before the
encoder.

The paper does not say whether its test drops tokens as well. Each arm is tested both ways on the same clips: with
all tokens (`top1`, `top5`), and with the training's ratio (`top1_masked`, `top5_masked`) under masks from one fixed
seed, which are the same for all seeds of an arm. Without masking both are one. Nothing is chosen on the tested
split: the last weights are tested.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidkit.bench.ablate.attempts import finetuned
from vidkit.bench.ablate.journal import check_split
from vidkit.bench.rows.specs import MASK_RATIOS, MASKING, NO_MASK
from vidkit.bench.studies.work import Arm, ArmConfig, ArmPlan, Work, arm, seeded
from vidkit.data.dataset import read_facts
from vidkit.data.load.loader import ClipLoader
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import MaskedClassifier, VideoClassifier
from vidkit.models.masking import num_visible
from vidkit.settings.train import ViewConfig
from vidkit.train import evaluate
from vidkit.train.inference import choose_device
from vidkit.train.runs import RunFolder

#: Of the masks in the test; no arm's own seed.
MASK_SEED = 0

RATIOS: dict[str, float | None] = {NO_MASK: None, **{f"{ratio:g}": ratio for ratio in MASK_RATIOS}}
METRICS = ("top1", "top5", "mAP")


def prepare(work: Work) -> ArmPlan:
    """
    Raises:
        ConfigError: no clips to test on, or a ratio that leaves no token visible.
    """
    built = read_facts(work.data)
    check_split(built, work.split, work.data)
    settings = work.settings
    if work.split == settings.finetune.data.split:
        raise ConfigError(
            f"split {work.split!r} is trained on, so it cannot be the test", field="--split", hint="choose another"
        )
    vit = settings.pretrain.model.encoder
    shown = {ratio: num_visible(vit.grid, ratio) for ratio in MASK_RATIOS}
    clips = built["splits"]
    notes = (
        f"Pre-trained and fine-tuned on {clips[settings.pretrain.data.split]['ok']:,} clips, tested on "
        f"{clips[work.split]['ok']:,} of split {work.split!r}. One pre-training for each seed, shared by its arms.",
        f"Visible of {vit.tokens} tokens: " + ", ".join(f"{ratio:g}: {v}" for ratio, v in shown.items()) + ".",
    )
    arms = tuple(
        arm(
            ArmConfig(
                study="mask-ratio",
                arm=name,
                seed=seed,
                split=work.split,
                pretrain=seeded(settings.pretrain, seed),
                finetune=replace(
                    settings.finetune, encoder=vit, seed=seed, val_split=None, mask_ratio=RATIOS[name]
                ),
                test=settings.test,
            ),
            work.recipe,
        )
        for seed in work.seeds
        for name in MASKING.arms
    )
    return ArmPlan(arms=arms, notes=notes)


def run(work: Work, plan: ArmPlan, one: Arm) -> dict[str, Any]:
    """Fields of the arm's row. Raises VidkitError: the arm has failed."""
    config = one.config
    assert config.pretrain is not None, "made by `prepare`"
    assert config.finetune is not None
    assert config.test is not None
    first = work.pretrained(config.pretrain, work.data)
    folder = work.out / one.folder / "finetune"
    tuned = finetuned(config.finetune, work.data, folder, init=first.checkpoint, quiet=work.quiet)
    started = time.perf_counter()
    loaded = checkpoints.load(RunFolder(folder).last)
    vit, ratio = loaded.config.encoder, config.finetune.mask_ratio
    visible = vit.tokens if ratio is None else num_visible(vit.grid, ratio)
    workers = config.finetune.data.workers
    predictions = one.folder / "predictions.parquet"
    whole = _tested(loaded, None, work, config.test, workers, work.out / predictions)
    masked = whole if ratio is None else _tested(loaded, visible, work, config.test, workers)
    metrics: dict[str, float] = {}
    half_widths: dict[str, float] = {}
    for suffix, found in (("", whole), ("_masked", masked)):
        for name in METRICS:
            if isinstance(found.get(name), float):
                metrics[name + suffix] = found[name]
                if name != "mAP":  # a mean over labels, not over clips
                    half_widths[name + suffix] = _half_width(found[name], found["clips"])
    return {
        "metrics": metrics,
        "half_widths": half_widths,
        "counts": {
            "clips": whole["clips"],
            "pre-training steps": first.steps,
            "fine-tuning steps": int(tuned["steps"]),
            "visible": visible,
            "tokens": vit.tokens,
        },
        "finetune_loss": tuned["loss"],
        "predictions_sha256": whole["predictions_sha256"],
        "runs": {
            "pretrain": first.folder.as_posix(),
            "finetune": (one.folder / "finetune").as_posix(),
            "predictions": predictions.as_posix(),
        },
        "seconds": {"arm": float(tuned["seconds"]) + time.perf_counter() - started},
    }


def _half_width(share: float, clips: int) -> float:
    """Of the 95 % interval of a share of clips that are right, by the normal distribution."""
    return 1.96 * math.sqrt(share * (1 - share) / clips)


def _tested(
    loaded: Checkpoint, visible: int | None, work: Work, views: ViewConfig, workers: int, out: Path | None = None
) -> dict[str, Any]:
    """Metrics of the split, with all tokens or with `visible` of them in each view; scores by clip go to `out`."""
    model = checkpoints.build(loaded)
    if not isinstance(model, VideoClassifier):
        raise ConfigError(f"the run left a {loaded.kind} model; expected a classifier", file=work.out)
    if visible is not None:
        masked = MaskedClassifier(model.config, visible, MASK_SEED)
        masked.load_state_dict(model.state_dict())
        model = masked
    device = choose_device(None)
    dataset = evaluate.open_test_split(work.data, work.split, model.config.encoder, views)
    loader = ClipLoader(dataset, batch_size=views.batch_size, workers=workers)
    try:
        with Progress("testing", len(dataset), quiet=work.quiet) as progress:
            predictions = evaluate.predict(
                model.to(device),
                loader,
                device,
                precision=work.settings.finetune.optim.precision,
                progress=progress,
            )
    finally:
        loader.close()
    if out is not None:
        evaluate.write_predictions(predictions, dataset, out)
    return {
        **evaluate.metrics_of(predictions),
        "clips": len(dataset),
        "predictions_sha256": predictions.sha256(),
    }
