"""The benchmark of a pre-training step: it works, its sums are right, and what it shows about memory stays so."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_pretrain import check_parity, released_tree, report, summary
from tests.benchmarks.test_benchmarks import run


@pytest.mark.slow
def test_bench_pretrain(tmp_path: Path) -> None:
    found, printed = run("bench_pretrain", tmp_path, "--threads", "1")
    names = {"reference", "vidkit, plain", "vidkit"}
    assert names <= set(found["runs"]) <= {*names, "released"}
    for name, rows in found["runs"].items():
        assert rows[0]["peak_gb"] > rows[0]["imports_gb"] > 0, name
        assert rows[0]["losses"][1] < rows[0]["losses"][0], name
    losses = {figures["loss"] for figures in found["parity"].values()}
    norms = {figures["gradient_norm"] for figures in found["parity"].values()}
    assert max(losses) - min(losses) < 1e-5
    assert max(norms) - min(norms) < 1e-5
    assert found["speed_over"]["reference"]["median"] > 0
    assert "| vidkit, plain |" in printed


@pytest.mark.parametrize("detached", [True, False], ids=["detached", "released"])
def test_with_light_recomputation_a_step_needs_no_memory_beyond_the_update(detached: bool) -> None:
    """The whole of ViT-B: activations take up nothing that the gradients will not take up later."""
    from benchmarks.parts.pretrain_steps import settings
    from vidkit.bench.measure.memory import predict_peak
    from vidkit.settings.model import RecomputeConfig, SamplerConfig

    config = settings("vit-base", RecomputeConfig(encoder="light", decoder="light", sampler="light"))
    config = replace(config, sampler=SamplerConfig(input="detached")) if detached else config
    peak = predict_peak(config, 4, device="cpu")
    assert peak.total_bytes < 1.02 * peak.update_bytes


def rows(seconds: list[float], peak: float) -> list[dict[str, Any]]:
    return [{"step_s": value, "peak_gb": peak, "imports_gb": 0.5} for value in seconds]


def test_ratios_and_targets() -> None:
    """A slow minute that hits one whole turn leaves the ratios as they are."""
    runs = {"released": rows([6.0, 60.0, 6.6], 5.0), "reference": rows([4.0, 40.0, 4.4], 6.0)}
    found = summary({**runs, "vidkit": rows([3.0, 30.0, 3.3], 2.4)})
    assert found["speed_over"]["released"]["median"] == 2
    assert found["memory_of"]["released"]["median"] == 0.48
    printed = report(found, {}, targets=True)
    assert "as released, at most 0.5 of its memory: met" in printed
    assert "as reference, at most 0.5 of its memory: NOT met" in printed


def test_another_loss_stops_it() -> None:
    one = {"loss": 1.0, "gradient_norm": 0.5}
    check_parity({"released": one, "vidkit": {"loss": 1.00001, "gradient_norm": 0.50001}})
    with pytest.raises(SystemExit, match=r"vidkit: gradient_norm is 0.6, not 0.5 as with released"):
        check_parity({"released": one, "vidkit": {"loss": 1.0, "gradient_norm": 0.6}})
    with pytest.raises(SystemExit, match="vidkit: loss is nan"):
        check_parity({"released": one, "vidkit": {"loss": float("nan"), "gradient_norm": 0.5}})


def test_released_code_from_a_checkout_or_a_bare_clone(tmp_path: Path) -> None:
    checkout, bare, work = tmp_path / "checkout", tmp_path / "bare", tmp_path / "work"
    (checkout / "models/pretrain").mkdir(parents=True)
    (checkout / "models/pretrain/vit.py").write_text("# code\n")
    work.mkdir()

    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=checkout, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "code")
    git("clone", "--bare", ".", str(bare))
    tree, commit = released_tree(checkout, work)
    assert (tree, len(commit or "")) == (checkout, 40)
    tree, same = released_tree(bare, work)
    assert (tree / "models/pretrain/vit.py").read_text() == "# code\n"
    assert same == commit
    with pytest.raises(SystemExit, match="neither a checkout nor a clone"):
        released_tree(work / "nothing", work)
