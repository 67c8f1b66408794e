"""Real clips through both kinds of build, checked against decodes that share no code with vidkit's."""

from __future__ import annotations

import io
import itertools
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.data import builds
from vidkit.data.manifests import load_spec
from vidkit.data.plan.planning import Request, prepare
from vidkit.data.shards import read_sample

pytestmark = pytest.mark.real_media

#: name -> (frames, width, height) as any decoder gives them
CLIPS = {
    "k400_arm_wrestling.mp4": (280, 340, 256),
    "test.mp4": (300, 340, 256),
    "part_0.mp4": (32, 340, 256),
    "test.avi": (164, 320, 240),
    "flipping_a_pancake.mkv": (310, 426, 240),
}


def decode_all(data: bytes) -> list[Any]:
    """Every frame, in the order it comes out: the plainest use of PyAV."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.reformat(format="rgb24") for frame in container.decode(video=0)]


def tree(media: Path, root: Path) -> dict[str, str]:
    """A Kinetics tree with bare ids of these clips; returns path -> clip."""
    names = {}
    for i, clip in enumerate(CLIPS):
        name = f"arm wrestling/real_clip_{i}{Path(clip).suffix}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(media / clip, root / name)
        names[name] = clip
    return names


def stored(media: Path, tmp_path: Path, **request: Any) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Build; returns clip -> (ledger row, stored bytes)."""
    names = tree(media, tmp_path / "kinetics")
    prepared = prepare(load_spec("k400"), {"kinetics": tmp_path / "kinetics"}, Request(**request))
    out = tmp_path / "out"
    built = builds.run(prepared, out, workers=2)
    builds.check_whole(out)
    rows = built.ledger.to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * len(CLIPS), [row["message"] for row in rows]
    return {
        names[row["path"]]: (row, read_sample(out / row["shard"], row["offset"], row["nbytes"])) for row in rows
    }


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_k400_style_keeps_every_frame_at_its_time(real_media: Path, tmp_path: Path) -> None:
    for clip, (row, data) in stored(real_media, tmp_path).items():
        frames, width, height = CLIPS[clip]
        source, copy = decode_all((real_media / clip).read_bytes()), decode_all(data)
        assert len(source) == frames
        assert (row["frames"], row["source_frames"], len(copy)) == (frames, frames, frames), clip
        short = min(width, height)
        size = (2 * round(width * 256 / short / 2), 2 * round(height * 256 / short / 2))
        assert (row["width"], row["height"]) == size == (copy[0].width, copy[0].height), clip
        assert (row["source_width"], row["source_height"]) == (width, height)
        # each frame is the frame of that number, not a neighbour: far closer to it than lossy coding explains
        for i in (0, frames // 3, frames // 2, frames - 1):
            shown = source[i].reformat(*size, interpolation="BICUBIC").to_ndarray()
            assert psnr(shown, copy[i].to_ndarray()) > 26, (clip, i)
        if clip.endswith((".mp4", ".mkv")):
            gaps = {round(float((b.pts - a.pts) * Fraction(a.time_base)), 3) for a, b in itertools.pairwise(source)}
            copied = {round(float((b.pts - a.pts) * Fraction(a.time_base)), 3) for a, b in itertools.pairwise(copy)}
            assert gaps == copied, clip


def test_composite_style_takes_100_frames_over_the_whole_length(real_media: Path, tmp_path: Path) -> None:
    spec = load_spec("composite-518").encode
    assert (spec.size, spec.max_frames, spec.fit) == (64, 100, "crop")
    names = tree(real_media, tmp_path / "kinetics")
    from dataclasses import replace

    k400 = replace(load_spec("k400"), encode=spec)
    prepared = prepare(k400, {"kinetics": tmp_path / "kinetics"}, Request())
    built = builds.run(prepared, tmp_path / "out", workers=2)
    for row in built.ledger.to_pylist():
        clip = names[row["path"]]
        frames, width, height = CLIPS[clip]
        source = decode_all((real_media / clip).read_bytes())
        copy = decode_all(read_sample(tmp_path / "out" / row["shard"], row["offset"], row["nbytes"]))
        kept = min(100, frames)
        assert row["frames"] == len(copy) == kept, clip
        assert (row["width"], row["height"]) == (64, 64) == (copy[0].width, copy[0].height)
        assert row["duration_s"] == pytest.approx(frames / {164: 25, 280: 28}.get(frames, 30), abs=0.05), clip
        side, left, top = min(width, height), (width - min(width, height)) // 2, (height - min(width, height)) // 2
        for k in (0, kept // 2, kept - 1):
            i = int((k + 0.5) * frames / kept) if kept < frames else k
            square = source[i].to_ndarray()[top : top + side, left : left + side]
            small = av.VideoFrame.from_ndarray(np.ascontiguousarray(square)).reformat(
                64, 64, interpolation="BICUBIC"
            )
            assert psnr(small.to_ndarray(format="rgb24"), copy[k].to_ndarray()) > 24, (clip, k)


def test_decord_counts_the_same_frames(real_media: Path, tmp_path: Path) -> None:
    decord = pytest.importorskip("decord", reason="decord has no wheel for this platform")
    for clip, (row, data) in stored(real_media, tmp_path, size=64).items():
        assert len(decord.VideoReader(io.BytesIO(data))) == row["frames"], clip
