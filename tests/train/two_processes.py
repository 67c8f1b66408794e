"""Pre-training, fine-tuning and evaluation with fixed masks, for `test_processes`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.train import small
from vidkit.settings.model import SamplerConfig
from vidkit.train import evaluate, finetune, pretrain


def keep_of(index: int) -> torch.Tensor:
    """Visible tokens that depend on the clip alone."""
    chosen = torch.randperm(32, generator=torch.Generator().manual_seed(index))[:8]
    return chosen.sort().values


def fixed(config: Any, rank: int) -> Any:
    def losses(model: Any, batch: Any, number: int) -> Any:
        keep = torch.stack([keep_of(int(i)) for i in batch.index])
        out = model(batch.video, keep_BV=keep)
        return {"loss": out.loss, "sampling_loss": out.sampling_loss}

    return losses


def main(data: Path, out: Path) -> None:
    pretrain._losses = fixed
    config = small.pretrain(model=small.model(sampler=SamplerConfig(heads=2, dropout=0.0)))
    pretrain.run(config, data, out / "pretrain", quiet=True)
    plain = small.finetune(mixup=0.0, cutmix=0.0, drop_path=0.0)
    plain = replace(plain, views=replace(plain.views, batch_size=2))
    summary = finetune.run(plain, data, out / "finetune", init=out / "pretrain/checkpoints/last.pt", quiet=True)
    rank = 0
    if torch.distributed.is_initialized():
        rank = torch.distributed.get_rank()
        torch.distributed.barrier()  # the first process writes checkpoints
    last = out / "finetune/checkpoints/last.pt"
    scores = out / "scores.parquet"
    found = evaluate.run(data, last, split="val", views=plain.views, workers=0, out=scores, quiet=True)
    metrics = {**summary["metrics"], "tested": found["top1"], "clips": found["clips"]}
    (out / f"summary-{rank}.json").write_text(json.dumps(metrics))
