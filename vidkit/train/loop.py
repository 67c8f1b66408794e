"""The training loop: schedule, precision, accumulation, checks, log, checkpoints, resume.

Nothing waits for the device within a step. What is random in a step is drawn from (seed, step, rank) alone, so a
run that goes on from a checkpoint takes the same steps, to the bit on a CPU. Values that are not finite skip the
update and stop the run within `CHECK_EVERY` steps; no checkpoint is written in between.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.data.load.batch import ClipBatch
from vidkit.data.load.loader import ClipLoader, DataWait
from vidkit.data.progress import Progress
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import checkpoints
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.masking import mask_seed
from vidkit.settings.plain import to_plain
from vidkit.settings.train import LogConfig, OptimConfig
from vidkit.train.runs import RunFolder, flat
from vidkit.train.schedule import learning_rate
from vidkit.train.setup import memory_gb
from vidkit.train.stopping import stopping

#: Steps after which a value that is not finite is noticed at the latest.
CHECK_EVERY = 20

#: (model, batch, number of the batch) -> named scalars on the device, "loss" among them
Losses = Callable[[nn.Module, ClipBatch, int], dict[str, Tensor]]
#: model -> metrics, of which the named one is to be high; on other processes than the first they may be empty
Validate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is trained. The loop knows neither clips nor losses."""

    kind: str
    model: nn.Module
    model_config: Any
    groups: list[dict[str, Any]]
    """Parameter groups; `lr_scale` is a group's share of the rate."""
    loader: ClipLoader
    losses: Losses
    optim: OptimConfig
    log: LogConfig
    seed: int
    facts: Mapping[str, Any]
    """Plain values for checkpoints."""
    validate: Validate | None = None
    validate_epochs: int = 1
    keep: tuple[float, ...] = ()
    """Shares of the run, below 1, at which a checkpoint of the weights is kept as well."""
    metric: str = ""
    """Which of the metrics decides what the best checkpoint is. Empty: none does."""


@dataclass(slots=True)
class Progressed:
    """How far a run is. Saved with every checkpoint."""

    step: int = 0
    best: float | None = None
    clips: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    """Of figures since the last line of the log, and `count` of their steps."""


def make_optimizer(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW with the fused kernel, which skips an update on the device."""
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)


def fit(task: Task, run: RunFolder, accelerate: Any, *, resume: bool, quiet: bool = False) -> dict[str, Any]:
    """Train to the end. Returns the run's summary, which is also written to summary.json.

    Raises:
        TrainingError: values that are not finite, a checkpoint that cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    if task.log.tracker is not None:
        accelerate.init_trackers("vidkit", config=flat({**task.facts, "model": to_plain(task.model_config)}))
    loop = _Loop(task, run, accelerate)
    if resume:
        loop.restore()
    elif accelerate.is_main_process:
        run.rewind(0)
    return loop.run_all(quiet)


class _Loop:
    def __init__(self, task: Task, run: RunFolder, accelerate: Any) -> None:
        self.task, self.run, self.accelerate = task, run, accelerate
        self.at = Progressed()
        self.raw = task.model.to(accelerate.device)
        self.optimizer = make_optimizer(task.groups, task.optim)
        self.ema = _ema(self.raw, task.optim.ema)
        if task.optim.compile:
            self.raw.compile()
        self.model = accelerate.prepare_model(self.raw)
        self.parameters = [p for group in task.groups for p in group["params"]]
        self.steps_per_epoch = len(task.loader) // task.optim.accumulate
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"an epoch has {len(task.loader)} batches, fewer than one step accumulates",
                field="optim.accumulate",
            )
        self.total = task.optim.total_steps(self.steps_per_epoch)
        self.keep = kept_steps(task.keep, self.total)
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=accelerate.device)
        self.bad_values: Tensor | None = None
        self.names: list[str] = []
        self.stopped = False

    # --- a run ---

    def run_all(self, quiet: bool) -> dict[str, Any]:
        main = self.accelerate.is_main_process
        self.waits = waits = DataWait(self._batches())
        metrics: dict[str, float] = {}
        with (
            stopping(self._stop),
            Progress("training", self.total, unit="steps", quiet=quiet or not main) as progress,
        ):
            progress.already("ok", self.at.step)
            self._tick = time.perf_counter()
            self._clips = 0
            for batches in _grouped(iter(waits), self.task.optim.accumulate):
                self._step(batches)
                self.at.step += 1
                progress.advance()
                epoch, rest = divmod(self.at.step, self.steps_per_epoch)
                if self.at.step % self.task.log.every == 0 or self.at.step == self.total:
                    progress.note = self._log(waits)
                elif self.at.step % CHECK_EVERY == 0:
                    self._check()
                stop = self._agreed_stop()
                if self.at.step in self.keep:
                    self._keep(epoch)
                if rest == 0 or self.at.step == self.total:
                    self._end_of_epoch()
                    metrics = self._validate(epoch) or metrics
                    if epoch % self.task.log.save_epochs == 0 or self.at.step == self.total or stop:
                        self._save(epoch)
                elif stop:
                    self._save(epoch)
                if stop and self.at.step < self.total:
                    raise KeyboardInterrupt
                if self.at.step >= self.total:
                    break
        return self._summary(metrics)

    def _batches(self) -> Iterator[ClipBatch]:
        """Of one epoch after the other, each cut to whole steps."""
        while self.at.step < self.total:
            steps = self.steps_per_epoch - self.at.step % self.steps_per_epoch
            yield from itertools.islice(self.task.loader, steps * self.task.optim.accumulate)

    def _step(self, batches: list[ClipBatch]) -> None:
        """One update. Everything stays on the device."""
        optim, step = self.task.optim, self.at.step
        lr = learning_rate(optim, step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        values: dict[str, Tensor] = {}
        for part, batch in enumerate(batches):
            number = step * optim.accumulate + part
            torch.manual_seed(mask_seed(self.task.seed, number, self.accelerate.process_index))
            last = part + 1 == len(batches)
            with contextlib.nullcontext() if last else self.accelerate.no_sync(self.model):
                found = self.task.losses(self.model, batch.to(self.accelerate.device), number)
                self.accelerate.backward(found["loss"] / len(batches))
            for name, value in found.items():
                values[name] = values.get(name, 0) + value.detach().float() / len(batches)
            self._clips += len(batch) * self.accelerate.num_processes
        values["grad_norm"] = self._update(values["loss"])
        self._add(values)
        if self.ema is not None:
            self.ema.update(self.raw, step=step)

    def _update(self, loss: Tensor) -> Tensor:
        """Clip, check, update. Returns the gradients' norm."""
        scaler = self.accelerate.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if self.task.optim.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.task.optim.clip_norm)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = norm.detach().float()
        # a scaler's overflow makes gradients infinite on purpose: it skips the update itself
        finite = loss.isfinite() if scaler is not None else loss.isfinite() & norm.isfinite()
        self.bad_step = torch.where((self.bad_step < 0) & ~finite, self.at.step, self.bad_step)
        if scaler is not None:
            scaler.step(self.optimizer)
            scaler.update()
        else:
            # the fused kernel reads the flag on the device and leaves weights and moments as they are
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    # --- figures ---

    def _add(self, values: dict[str, Tensor]) -> None:
        self.count += 1
        self.names = list(values)
        row = torch.stack(list(values.values()))
        if self.bad_values is None:
            self.bad_values = row
        self.bad_values = torch.where(self.bad_step == self.at.step, row, self.bad_values)
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.double()

    def _check(self) -> None:
        """Raise if a value was not finite. Waits for the device."""
        step = int(self.bad_step)
        if step < 0:
            return
        assert self.bad_values is not None
        values = zip(self.names, self.bad_values.tolist(), strict=True)
        raise TrainingError(
            f"step {step + 1}: not finite ({', '.join(f'{name} {value:g}' for name, value in values)})",
            file=self.run.root / "config.json",
            hint="the update was left out and nothing was saved since; try a lower rate, clip_norm, or "
            "precision fp32, from the last checkpoint",
        )

    def _log(self, waits: DataWait[ClipBatch]) -> str:
        """Write a line with the means since the last one. Returns what the progress line says."""
        self._check()
        means = torch.stack(list(self.sums.values())) / self.count
        if self.accelerate.num_processes > 1:
            means = self.accelerate.reduce(means, reduction="mean")
        row = dict(zip(self.sums, means.tolist(), strict=True))
        now = time.perf_counter()
        seconds, self._tick = now - self._tick, now
        rate = self._clips / max(seconds, 1e-9)
        self.at.clips += self._clips
        self.at.seconds += seconds
        step = self.at.step
        lr = learning_rate(self.task.optim, step - 1, self.steps_per_epoch)
        speed = {"clips_per_s": rate, "data_wait": waits.share, "memory_gb": memory_gb(), "seconds": seconds}
        if self.accelerate.is_main_process:
            self.run.log({"step": step, "epoch": step / self.steps_per_epoch, "lr": lr, **row, **speed})
        if self.accelerate.trackers:
            self.accelerate.log({"lr": lr, **row, **speed}, step=step)
        self.sums, self.count, self._clips = {}, 0, 0
        waits.reset()
        return (
            f"loss {row['loss']:.4f}  {rate:.1f} clips/s  waiting {speed['data_wait']:.0%}  "
            f"{speed['memory_gb']:.1f} GB"
        )

    # --- the end of an epoch ---

    def _end_of_epoch(self) -> None:
        self._check()
        self.task.loader.share_bad()
        if self.task.loader.steps_left:
            self.task.loader.next_epoch()  # the batches that are left no longer fill a step

    def _validate(self, epoch: int) -> dict[str, float] | None:
        task = self.task
        if task.validate is None or (epoch % task.validate_epochs and self.at.step < self.total):
            return None
        started = time.perf_counter()
        model = self.raw if self.ema is None else self.ema.module
        training = model.training
        model.eval()
        metrics = task.validate(model)
        model.train(training)
        self.raw.train()
        if task.metric and (self.at.best is None or metrics[task.metric] > self.at.best):
            self.at.best = metrics[task.metric]
            if self.accelerate.is_main_process:
                checkpoints.save(self.run.best, self._checkpoint(epoch, model, metrics))
        if self.accelerate.is_main_process:
            self.run.log({"step": self.at.step, "epoch": epoch, **{f"val_{k}": v for k, v in metrics.items()}})
        seconds = time.perf_counter() - started  # training's speed is not that of a test
        self._tick += seconds
        self.waits.leave_out(seconds)
        return metrics

    def _checkpoint(self, epoch: int, model: nn.Module, metrics: Mapping[str, float] | None = None) -> Checkpoint:
        facts = {**self.task.facts, "step": self.at.step, "epoch": epoch}
        if metrics is not None:
            facts["metrics"] = dict(metrics)
        return Checkpoint(config=self.task.model_config, model=_on_cpu(model.state_dict()), facts=facts)

    def _save(self, epoch: int) -> None:
        self._check()
        self.accelerate.wait_for_everyone()
        if not self.accelerate.is_main_process:
            return
        plain = self._checkpoint(epoch, self.raw if self.ema is None else self.ema.module)
        training = {
            "optimizer": self.optimizer.state_dict(),
            "loader": self.task.loader.state_dict(),
            # a checkpoint's model is what is tested and used: the average, where there is one
            "weights": None if self.ema is None else self.raw.state_dict(),
            "scaler": None if self.accelerate.scaler is None else self.accelerate.scaler.state_dict(),
            "sums": dict(self.sums),
            "count": self.count,
            "progress": {
                "step": self.at.step,
                "best": self.at.best,
                "clips": self.at.clips,
                "seconds": self.at.seconds,
            },
        }
        whole = Checkpoint(config=plain.config, model=plain.model, facts=plain.facts, training=_on_cpu(training))
        checkpoints.save(self.run.last, whole)
        every = self.task.log.keep_epochs
        if every and epoch and epoch % every == 0 and self.at.step % self.steps_per_epoch == 0:
            checkpoints.save(self.run.epoch(epoch), plain)

    def _keep(self, epoch: int) -> None:
        self._check()
        if self.accelerate.is_main_process:
            plain = self._checkpoint(epoch, self.raw if self.ema is None else self.ema.module)
            checkpoints.save(self.run.step(self.at.step), plain)

    def restore(self) -> None:
        """Go on from the last checkpoint."""
        found = checkpoints.load(self.run.last, training=True)
        state = found.training
        if state is None:
            raise ConfigError("the checkpoint holds weights only", file=self.run.last)
        self.raw.load_state_dict(found.model if self.ema is None else state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task.loader.load_state_dict(state["loader"])
        if self.ema is not None:
            self.ema.module.load_state_dict(found.model)
        if self.accelerate.scaler is not None and state["scaler"] is not None:
            self.accelerate.scaler.load_state_dict(state["scaler"])
        self.sums = {name: value.to(self.accelerate.device) for name, value in state["sums"].items()}
        self.count = state["count"]
        self.at = Progressed(**state["progress"])
        if self.accelerate.is_main_process:
            self.run.rewind(self.at.step)

    def _summary(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        logged = self.run.rows()
        rows = [row for row in logged if "loss" in row]
        tests = [row for row in logged if any(name.startswith("val_") for name in row)]
        if not metrics and tests:  # a finished run that was resumed
            metrics = {name[4:]: value for name, value in tests[-1].items() if name.startswith("val_")}
        summary = {
            "status": "complete",
            "kind": self.task.kind,
            "steps": self.at.step,
            "epochs": self.task.optim.epochs,
            "clips": self.at.clips,
            "seconds": self.at.seconds,
            "clips_per_s": self.at.clips / max(self.at.seconds, 1e-9),
            "data_wait": sum(row["data_wait"] for row in rows) / max(1, len(rows)),
            "memory_gb": memory_gb(),
            "loss": rows[-1]["loss"] if rows else None,
            "left_out": len(self.task.loader.bad),
            "best": self.at.best,
            "metrics": dict(metrics),
        }
        if self.accelerate.is_main_process:
            self.run.finish(summary)
        if self.accelerate.trackers:
            self.accelerate.end_training()
        return summary

    # --- stopping ---

    def _stop(self) -> None:
        self.stopped = True

    def _agreed_stop(self) -> bool:
        """Whether to stop after this step: every process the same one."""
        if self.accelerate.num_processes == 1:
            return self.stopped
        if self.at.step % self.task.log.every:
            return False
        flag = torch.tensor(float(self.stopped), device=self.accelerate.device)
        return bool(self.accelerate.reduce(flag, reduction="sum") > 0)


def kept_steps(shares: Iterable[float], total: int) -> tuple[int, ...]:
    """The steps at which shares of a run of `total` steps are reached, ascending, its end left out.

    >>> kept_steps((0.1, 0.25, 0.5, 1.0), 30)
    (3, 8, 15)
    """
    return tuple(sorted({max(1, round(share * total)) for share in shares} - {total}))


def _ema(model: nn.Module, decay: float | None) -> Any:
    if decay is None:
        return None
    from timm.utils import ModelEmaV3  # type: ignore[attr-defined]

    return ModelEmaV3(model, decay=decay)


def _grouped(batches: Iterator[ClipBatch], size: int) -> Iterator[list[ClipBatch]]:
    group: list[ClipBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []


def _on_cpu(value: Any) -> Any:
    """Nested containers with tensors, as they are written to disk."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_on_cpu(inner) for inner in value]
    return value
