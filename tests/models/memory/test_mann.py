"""MANN and the LSTM learners against the written-out reference; no leak, no mixing of episodes, bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_adamae import check_no_loop_over_the_batch
from tests.reference import ref_mann
from vidkit.errors import ConfigError
from vidkit.models.memory.episodic import BlackBox, EpisodicLearner, LSTMLearner
from vidkit.models.memory.mann import Mann, equal_lstm, lstm_parameters, parameter_count
from vidkit.models.memory.memory import EPS, Memory, access, cosine, empty_memory, least_used, read, write
from vidkit.settings.model import LSTMConfig, MannConfig, blackbox

MINI = MannConfig(inputs=6, way=3, controller=8, slots=9, width=5, reads=2)
CONFIGS = {
    "learned": MINI,
    "none": replace(MINI, sharpness="none"),
    "one-head": replace(MINI, reads=1, gamma=0.5),
    "few-slots": replace(MINI, slots=2),
}


def build(config: MannConfig | LSTMConfig, seed: int = 0) -> Any:
    """A learner in float64 whose biases and initial state are not at their plain initial values."""
    generator = torch.Generator().manual_seed(seed)
    kind = Mann if isinstance(config, MannConfig) else LSTMLearner
    learner = kind(config, generator).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return learner


def episodes(config: Any, batch: int = 2, steps: int = 7, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    items = torch.randn(batch, steps, config.inputs, generator=generator, dtype=torch.float64)
    return items, torch.randint(0, config.way, (batch, steps), generator=generator)


LEARNERS = [MINI, LSTMConfig(inputs=6, way=3, hidden=8), blackbox(6, 3, 8)]


@pytest.fixture(params=LEARNERS, ids=["mann", "lstm", "blackbox"])
def learner(request: pytest.FixtureRequest) -> EpisodicLearner:
    model: EpisodicLearner = build(request.param)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_sequence_equals_the_reference(name: str) -> None:
    config = CONFIGS[name]
    model = build(config)
    items, labels = episodes(config)
    weights = dict(model.named_parameters())
    results = []
    for logits in (model(items, labels), ref_mann.sequence(weights, config, items, labels)):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
        model.zero_grad()
    for got, expected in zip(*results, strict=True):
        assert torch.allclose(got, expected, atol=1e-6, rtol=1e-6)
        assert got.any()


@pytest.mark.parametrize("name", CONFIGS)
def test_support_and_query_equal_the_reference(name: str) -> None:
    config = CONFIGS[name]
    model = build(config)
    support, labels = episodes(config, steps=4)
    query, _ = episodes(config, steps=3, seed=2)
    expected = ref_mann.classify(dict(model.named_parameters()), config, support, labels, query)
    assert torch.allclose(model.classify(support, labels, query), expected, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_lstms_equal_the_reference(layers: int) -> None:
    config = LSTMConfig(inputs=6, way=3, hidden=8, layers=layers)
    model = build(config)
    support, labels = episodes(config, steps=4)
    query, _ = episodes(config, steps=3, seed=2)
    weights = dict(model.named_parameters())
    expected = ref_mann.blackbox(weights, 3, layers, support, labels, query)
    assert torch.allclose(model.classify(support, labels, query), expected, atol=1e-6)


def test_gradients_equal_finite_differences() -> None:
    config = MannConfig(inputs=2, way=2, controller=3, slots=4, width=2, reads=2)
    model = build(config)
    items, labels = episodes(config, batch=1, steps=3)
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(items: Tensor, *parameters: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(
            model, dict(zip(names, parameters, strict=True)), (items, labels), strict=True
        )
        return out

    assert torch.autograd.gradcheck(logits, (items.requires_grad_(), *values), eps=1e-7, atol=1e-4)


def test_one_step_of_the_memory_by_hand() -> None:
    """Three rows, one head: row 0 was read, row 2 is least used."""
    before = Memory(
        rows=torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]]),
        read_weights=torch.tensor([[[0.75, 0.25, 0.0]]]),
        usage=torch.tensor([[1.0, 0.5, 0.25]]),
    )
    got, after = access(
        before,
        keys_BRW=torch.tensor([[[0.0, 1.0]]]),
        values_BRW=torch.tensor([[[0.0, 4.0]]]),
        gate_BR=torch.tensor([[0.5]]),
        strength_BR=torch.tensor([[2.0]]),
        gamma=0.5,
    )
    # Row 2 is erased; half of the value goes there, half along what was read: 0.375, 0.125 and 0.5 of it.
    assert after.rows[0].tolist() == [[1.0, 1.5], [0.0, 2.5], [0.0, 2.0]]
    cosines = torch.tensor([1.5 / (3.25**0.5 + EPS), 2.5 / (2.5 + EPS), 2.0 / (2.0 + EPS)])
    weights = (2 * cosines).softmax(0)
    assert torch.allclose(after.read_weights[0, 0], weights)
    assert torch.allclose(got[0, 0], weights @ after.rows[0])
    written = torch.tensor([0.375, 0.125, 0.5])
    assert torch.allclose(after.usage[0], 0.5 * before.usage[0] + weights + written)


def test_least_used_rows_come_in_order_and_ties_go_to_the_first() -> None:
    usage = torch.tensor([[0.3, 0.1, 0.1, 0.0, 0.9], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert least_used(usage, 3).tolist() == [[3, 1, 2], [0, 1, 2]]


def test_closed_gates_fill_row_after_row_before_one_is_written_again() -> None:
    """Every gate at 0, uniform reading: 3 steps of 2 heads fill 6 rows, each once, and the 4th the oldest."""
    memory = empty_memory(1, 6, 2, 2, like=torch.zeros(()))
    for step in range(4):
        values = torch.full((1, 2, 2), float(step + 1))
        _, memory = access(
            memory,
            keys_BRW=torch.zeros(1, 2, 2),
            values_BRW=values,
            gate_BR=torch.zeros(1, 2),
            strength_BR=None,
            gamma=0.95,
        )
    assert memory.rows[0, :, 0].tolist() == [4, 4, 2, 2, 3, 3]


def test_reading_finds_the_row_and_ignores_its_length() -> None:
    rows = torch.tensor([[[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0]]])
    key = torch.tensor([[[0.0, 7.0]]])
    assert cosine(key, rows)[0, 0].tolist() == pytest.approx([0, 1, 0], abs=0.01)
    got, weights = read(rows, key, torch.tensor([[100.0]]))
    assert weights.sum().item() == pytest.approx(1)
    assert weights[0, 0, 1] > 0.999
    assert torch.allclose(got[0, 0], rows[0, 1], atol=1e-3)


def test_rows_never_written_have_no_direction() -> None:
    memory = empty_memory(1, 4, 40, 1, like=torch.zeros(()))
    assert cosine(torch.ones(1, 1, 40), memory.rows).abs().max() < 0.05


def test_write_weights_of_a_head_sum_to_its_reading_and_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    memory = Memory(
        rows=torch.randn(3, 8, 4, generator=generator),
        read_weights=torch.randn(3, 2, 8, generator=generator).softmax(dim=2),
        usage=torch.rand(3, 8, generator=generator),
    )
    _, weights = write(memory, torch.zeros(3, 2, 4), torch.rand(3, 2, generator=generator))
    assert torch.allclose(weights.sum(dim=2), torch.ones(3, 2))


def test_a_label_is_not_seen_before_its_time(learner: EpisodicLearner) -> None:
    """Another label at step t changes the logits after t only; another input those from t on."""
    items, labels = episodes(MINI)
    plain = learner(items, labels)
    for step in range(labels.shape[1]):
        other = labels.clone()
        other[:, step] = (other[:, step] + 1) % 3
        changed = (learner(items, other) != plain).any(dim=2).any(dim=0)
        assert not changed[: step + 1].any()
        assert changed[step + 1 :].all()
        moved = items.clone()
        moved[:, step] += 1
        changed = (learner(moved, labels) != plain).any(dim=2).any(dim=0)
        assert not changed[:step].any()
        assert changed[step:].all()


def test_queries_do_not_see_each_other(learner: EpisodicLearner) -> None:
    support, labels = episodes(MINI, steps=4)
    query, _ = episodes(MINI, steps=5, seed=2)
    whole = learner.classify(support, labels, query)
    alone = torch.cat([learner.classify(support, labels, query[:, k : k + 1]) for k in range(5)], dim=1)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(whole, alone, atol=1e-12)
    assert torch.allclose(learner.classify(support, labels, query[:, order]), whole[:, order], atol=1e-12)


def test_episodes_do_not_see_each_other(learner: EpisodicLearner) -> None:
    items, labels = episodes(MINI, batch=4)
    alone = torch.cat([learner(items[k : k + 1], labels[k : k + 1]) for k in range(4)])
    assert torch.allclose(learner(items, labels), alone, atol=1e-12)


def test_no_loop_over_the_batch() -> None:
    model = build(MINI)
    check_no_loop_over_the_batch(model, lambda batch: model(*episodes(MINI, batch)).square().sum())


def test_every_parameter_gets_a_gradient_at_the_start() -> None:
    for model in (Mann(MINI), LSTMLearner(LEARNERS[1]), BlackBox(LEARNERS[2])):  # type: ignore[arg-type]
        items, labels = episodes(MINI)
        logits = model(items.float(), labels)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_same_generator_same_learner() -> None:
    first, same, other = (Mann(MINI, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["gates_x.weight"], other["gates_x.weight"])


def test_long_episodes_stay_finite() -> None:
    """More steps than the memory has rows, inputs far out of range."""
    model = Mann(MINI, torch.Generator().manual_seed(0))
    items, labels = episodes(MINI, steps=60)
    logits = model(items.float() * 1e4, labels)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("config", [MannConfig(), MINI, replace(MINI, sharpness="none", inputs=50)])
def test_the_lstm_is_of_equal_size(config: MannConfig) -> None:
    lstm = equal_lstm(config)
    mann = parameter_count(Mann(config))
    assert lstm_parameters(lstm) == parameter_count(LSTMLearner(lstm))
    for hidden in (lstm.hidden - 1, lstm.hidden + 1):
        assert abs(lstm_parameters(lstm) - mann) <= abs(lstm_parameters(replace(lstm, hidden=hidden)) - mann)


def test_sizes_are_the_papers() -> None:
    config = MannConfig()
    assert (config.controller, config.slots, config.width, config.reads, config.gamma) == (200, 128, 40, 4, 0.95)
    assert lstm_parameters(blackbox(400, 5)) == parameter_count(BlackBox(blackbox(400, 5)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MannConfig(way=1), "way is 1; expected at least 2"),
        (lambda: MannConfig(reads=129), "reads is 129; expected at most the 128 slots"),
        (lambda: MannConfig(gamma=1.0, slots=0), "slots is 0; .*gamma is 1.0; expected at least 0, below 1"),
        (lambda: MannConfig(sharpness="soft"), "one of learned, none"),  # type: ignore[arg-type]
        (lambda: LSTMConfig(hidden=0, layers=0), "hidden is 0; .*layers is 0"),
        (lambda: BlackBox(LSTMConfig()), "layers is 1; expected 2"),
    ],
)
def test_bad_settings(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_input_that_does_not_fit(learner: EpisodicLearner) -> None:
    items, labels = episodes(MINI)
    with pytest.raises(
        ConfigError, match=r"inputs are torch.float64 of shape \(2, 7, 5\); .* \(episodes, items, 6\)"
    ):
        learner(items[..., :5], labels)
    with pytest.raises(
        ConfigError, match=r"labels are torch.int64 of shape \(2, 6\); expected int64 of shape \(2, 7\)"
    ):
        learner(items, labels[:, :6])
    with pytest.raises(ConfigError, match=r"labels are torch.float32"):
        learner(items, labels.float())
    with pytest.raises(ConfigError, match="support has 2 episodes and query 1"):
        learner.classify(items, labels, items[:1])
