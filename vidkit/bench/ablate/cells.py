"""From cells to whole configurations: presets, the rows of the paper that correspond, hashes, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from vidkit.bench.ablate.table1 import DEFAULTS, LOSSES, SAMPLERS, PaperRow, read_table1
from vidkit.bench.measure.flops import Cost, cost
from vidkit.bench.rows.schema import GridCell, PaperFigures, Planned
from vidkit.errors import ConfigError
from vidkit.models.masking import num_targets, num_visible
from vidkit.models.masking.own import try_out
from vidkit.settings.ablation import (
    VERDICT_SEEDS,
    Cell,
    CellConfig,
    Equal,
    Grid,
    MeasureConfig,
    MemoryConfig,
    check_preset,
    masks_grid,
    verdict_cells,
)
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, LossConfig, MaskConfig, SamplerConfig
from vidkit.settings.plain import config_hash
from vidkit.settings.recipes import Recipe

#: Share of a device's rate of matrix products that training is assumed to reach where nothing was measured.
ASSUMED_SHARE = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A cell, and the paper's rows it stands for."""

    cell: Cell
    paper: tuple[PaperFigures, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A cell with all that is needed to run it."""

    planned: Planned
    config: CellConfig
    memory: MemoryConfig

    def with_paper(self, known: tuple[PaperFigures, ...], more: tuple[PaperFigures, ...] = ()) -> Job:
        """The same cell, which stands for these rows of the paper and its own."""
        cell = self.planned.in_grid
        paper = tuple(dict.fromkeys((*known, *cell.paper, *more)))
        return replace(self, planned=replace(self.planned, cell=replace(cell, paper=paper)))


def preset(name: str, recipe: Recipe, seeds: tuple[int, ...]) -> tuple[Wanted, ...]:
    """The cells of a named preset.

    Table 1e varies the epochs: 200, 500 and 600 of 800. Another recipe's epochs are taken in the same shares. Each
    number is a run of its own, since the schedule's cosine ends with the run.

    Raises:
        ConfigError: no such preset.
    """
    check_preset(name)
    if name == "masks":
        return from_grid(masks_grid(seeds), recipe)
    if name == "verdicts":
        return tuple(Wanted(cell=cell) for cell in verdict_cells(seeds or VERDICT_SEEDS))
    rows = [row for row in read_table1() if f"table{row.table}" == name]
    return tuple(
        Wanted(cell=_cell_of(row, recipe, seed), paper=(figures(row),)) for row in rows for seed in seeds or (0,)
    )


def _cell_of(row: PaperRow, recipe: Recipe, seed: int) -> Cell:
    whole = int(DEFAULTS["epochs"])
    values: dict[str, Any] = {"mask": row.mask, "loss": row.loss, "sampler": row.sampler}
    share = max(1, round(recipe.pretrain.optim.epochs * row.epochs / whole))
    epochs = None if row.epochs == whole else share
    return Cell(**values, ratio=row.ratio, decoder_depth=row.decoder_depth, epochs=epochs, seed=seed)


def figures(row: PaperRow) -> PaperFigures:
    """What a row of the paper's Table 1 says, as results quote it: its place, percent and GB."""
    return PaperFigures(table=row.table, row=row.row, top1=row.top1, top5=row.top5, memory_gb=row.memory_gb)


def from_grid(grid: Grid, recipe: Recipe) -> tuple[Wanted, ...]:
    """Raises ConfigError for a value that no cell can have."""
    rows = read_table1()
    return tuple(Wanted(cell=cell, paper=_matching(cell, rows)) for cell in grid.cells(recipe))


def _matching(cell: Cell, rows: Iterable[PaperRow]) -> tuple[PaperFigures, ...]:
    """The first row with these settings; what a cell leaves open is the paper's own choice there."""
    others = (cell.tokenizer, "tubelet"), (cell.targets, "complement"), (cell.decoder, "self")
    if any(value not in (None, usual) for value, usual in others):
        return ()

    def value(source: Any, name: str) -> Any:
        found = getattr(source, name)
        return DEFAULTS[name] if found is None else found

    fitting = (row for row in rows if all(value(row, name) == value(cell, name) for name in DEFAULTS))
    return tuple(figures(row) for row in fitting)[:1]


def fitting(wanted: Sequence[Wanted], recipe: Recipe) -> Recipe:
    """`recipe`, with smaller patches where its own are too few for a ratio of these: halved as often as that takes,
    for all cells alike. Where halving does not help, `recipe` itself, and `plan` says what is wrong.

    Too few: no token is visible, or rounding makes the visible share wrong by a quarter or more (at 0.95, 1 of 16
    tokens of a time step is 6.2 % where 5 % were asked for; of 64 it is 3, 4.7 %).
    """
    model = recipe.pretrain.model
    made, vit = recipe, model.encoder
    ratios = {one.cell.ratio for one in wanted}
    while not all(_keeps(vit.grid, ratio) for ratio in ratios):
        if vit.patch % 2 or vit.patch <= 4:
            return recipe
        vit = replace(vit, patch=vit.patch // 2)
        pretrain = replace(recipe.pretrain, model=replace(model, encoder=vit))
        made = replace(recipe, pretrain=pretrain)
    return made


def _keeps(grid: tuple[int, int, int], ratio: float) -> bool:
    try:
        visible = num_visible(grid, ratio)
    except ConfigError:
        return False
    asked = (1 - Fraction(str(ratio))) * math.prod(grid)
    return abs(visible - asked) < asked / 4


def resolve(cell: Cell, recipe: Recipe) -> CellConfig:
    """`recipe` with the settings of `cell`.

    Nothing is validated during fine-tuning: the last weights are tested, so nothing is chosen on the split that is
    reported.

    Raises:
        ConfigError: settings that do not fit each other, a mask that leaves no target, or one's own that is not
            there.
    """
    base = recipe.pretrain.model
    loss = base.loss if cell.loss is None else _loss(LOSSES[cell.loss], base.loss)
    if cell.mask != "adaptive":  # there is no sampler to train in another way
        loss = replace(loss, objective="paper", entropy_floor=0.0)
    model = replace(
        base,
        mask=_mask(cell, base.mask),
        decoder=replace(
            base.decoder, depth=cell.decoder_depth or base.decoder.depth, kind=cell.decoder or base.decoder.kind
        ),
        loss=loss,
        sampler=base.sampler if cell.sampler is None else _sampler(SAMPLERS[cell.sampler], base.sampler),
        encoder=base.encoder if cell.tokenizer is None else replace(base.encoder, tokenizer=cell.tokenizer),
    )
    num_targets(model.encoder.grid, model.mask)  # raises where none is left
    if ":" in cell.mask:
        try_out(model.mask, model.encoder)
    optim = recipe.pretrain.optim
    if cell.epochs is not None:
        # a short run would be all warm-up; the recipe's share of warm-up holds
        warmup = optim.warmup_epochs * min(1.0, cell.epochs / optim.epochs)
        optim = replace(optim, epochs=cell.epochs, warmup_epochs=warmup)
    return CellConfig(
        pretrain=replace(recipe.pretrain, model=model, optim=optim, seed=cell.seed, paired=cell.mask == "adaptive"),
        finetune=replace(recipe.finetune, encoder=model.encoder, seed=cell.seed, val_split=None),
        test=recipe.test,
    )


def _mask(cell: Cell, base: MaskConfig) -> MaskConfig:
    targets = cell.targets or base.targets
    share = 1.0 if targets == "complement" else cell.target_ratio or base.target_ratio
    return replace(base, strategy=cell.mask, ratio=cell.ratio, targets=targets, target_ratio=share)


def _loss(chosen: LossConfig, base: LossConfig) -> LossConfig:
    return replace(base, kind=chosen.kind, normalize=chosen.normalize)


def _sampler(chosen: SamplerConfig, base: SamplerConfig) -> SamplerConfig:
    return replace(base, kind=chosen.kind, depth=chosen.depth, width_divisor=chosen.width_divisor)


def described(cell: Cell, config: CellConfig) -> Cell:
    """`cell` with the recipe's values for what it leaves open. A loss or sampler without a name stays None."""
    model = config.pretrain.model
    loss: Any = next((name for name, made in LOSSES.items() if _loss(made, model.loss) == model.loss), None)
    sampler: Any = None
    if model.mask.strategy == "adaptive":
        fitting = (name for name, made in SAMPLERS.items() if _same_sampler(made, model.sampler))
        sampler = next(fitting, None)
    return replace(
        cell,
        decoder_depth=model.decoder.depth,
        loss=loss,
        sampler=sampler,
        epochs=config.pretrain.optim.epochs,
        tokenizer=model.encoder.tokenizer,
        # usual values have no name: so had all cells before there were others
        targets=None if model.mask.targets == "complement" else model.mask.targets,
        target_ratio=None if model.mask.targets == "complement" else model.mask.target_ratio,
        decoder=None if model.decoder.kind == "self" else model.decoder.kind,
    )


def at_equal_compute(config: CellConfig, recipe: Recipe) -> CellConfig:
    """`config` with as many epochs, parts of one included, as cost what random masks at the recipe's own ratio cost
    in its epochs: multiply-accumulates of training, the sampler's and the decoder's among them.

    The budget is the recipe's alone, so that it stays where a grid grows.
    """
    base, optim = recipe.pretrain.model, config.pretrain.optim
    loss = replace(base.loss, objective="paper", entropy_floor=0.0)
    mask = replace(base.mask, strategy="random", targets="complement", target_ratio=1.0)
    budget = cost(replace(base, mask=mask, loss=loss)).training
    length = optim.epochs * budget / cost(config.pretrain.model).training
    whole = math.ceil(length)
    optim = replace(
        optim,
        epochs=whole,
        part_epochs=None if length == whole else length,
        warmup_epochs=optim.warmup_epochs * length / optim.epochs,
    )
    return replace(config, pretrain=replace(config.pretrain, optim=optim))


def _same_sampler(one: SamplerConfig, other: SamplerConfig) -> bool:
    if one.kind == other.kind == "mlp":
        return one.width_divisor == other.width_divisor
    return _sampler(one, other) == other


def plan(
    wanted: Sequence[Wanted],
    recipe: Recipe,
    *,
    recipe_name: str,
    measure: MeasureConfig | None = None,
    memory_only: bool = False,
    equal: Equal = "tokens",
) -> tuple[Job, ...]:
    """Jobs in the order wanted; cells that come to the same configuration are one job, with the paper rows of all.

    Args:
        equal: "tokens": arms of one ratio see as many visible tokens. "compute": see `at_equal_compute`.

    Raises:
        ConfigError: settings that do not fit each other, or a mask that leaves no token visible.
    """
    batch = (measure or MeasureConfig()).batch
    found: dict[str, Job] = {}
    known: dict[AdaMAEConfig, Cost] = {}

    def configured(cell: Cell) -> CellConfig:
        config = resolve(cell, recipe)
        return at_equal_compute(config, recipe) if equal == "compute" and not memory_only else config

    for one in wanted:
        config = configured(one.cell)
        memory = MemoryConfig(model=config.pretrain.model, batch=batch, precision=config.pretrain.optim.precision)
        key = config_hash(memory if memory_only else config)
        group = key if memory_only else config_hash(configured(replace(one.cell, seed=0)))
        if key in found:
            found[key] = found[key].with_paper((), one.paper)
            continue
        if memory.model not in known:
            known[memory.model] = cost(memory.model)
        costs = known[memory.model]
        cell = GridCell(
            kind="memory" if memory_only else "full",
            settings=described(one.cell, config),
            visible=costs.visible,
            tokens=costs.tokens,
            parameters=costs.parameters,
            forward_macs=costs.forward,
            training_macs=costs.training,
            paper=one.paper,
            targets=num_targets(memory.model.encoder.grid, memory.model.mask),
            equal=equal,
            length=config.pretrain.optim.part_epochs,
        )
        planned = Planned(config_hash=key, group=group, seed=one.cell.seed, recipe=recipe_name, cell=cell)
        found[key] = Job(planned=planned, config=config, memory=memory)
    return tuple(found.values())


def operations(job: Job, clips: int, classes: int) -> tuple[float, float]:
    """Floating-point operations of (pre-training, fine-tuning) on a split of `clips`; the test is left out."""
    pretrain, finetune = job.config.pretrain, job.config.finetune
    whole = ClassifierConfig(encoder=finetune.encoder, classes=max(1, classes))
    if job.planned.in_grid.kind == "memory":
        return 0.0, 0.0
    tuning = 2.0 * cost(whole).training * clips * finetune.optim.epochs
    return 2.0 * job.planned.in_grid.training_macs * clips * pretrain.optim.length, tuning


def estimated_hours(
    jobs: Sequence[Job], clips: int, classes: int, rate: float, share: float = ASSUMED_SHARE
) -> Mapping[str, float]:
    """Hours of each job by its hash, if training reaches `share` of `rate` operations a second. A pre-training that
    several jobs share counts for the first of them.
    """
    seen: set[str] = set()
    hours: dict[str, float] = {}
    for job in jobs:
        training, tuning = operations(job, clips, classes)
        key = config_hash(job.config.pretrain)
        hours[job.planned.config_hash] = ((0.0 if key in seen else training) + tuning) / (rate * share) / 3600
        seen.add(key)
    return hours
