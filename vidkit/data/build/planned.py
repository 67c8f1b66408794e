"""From sources on disk to a built dataset, in two calls: `plan`, `build`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vidkit.cluster import check_executor
from vidkit.data.build.build import BuildSettings, Built
from vidkit.data.build.build import build as build_table
from vidkit.data.build.task import encoder_of
from vidkit.data.packed.scratch import LIMIT_BYTES, let_go
from vidkit.data.plan.planning import Prepared, Request, choose_spec, describe, identity, prepare
from vidkit.data.progress import Progress
from vidkit.data.storage.places import place
from vidkit.errors import ConfigError
from vidkit.settings.encode import SourceOptions

TRANSCODERS = ("pyav", "ffmpeg")


def plan(
    spec: str | os.PathLike[str],
    folders: Mapping[str, str | os.PathLike[str]],
    *,
    annotations: Sequence[str | os.PathLike[str]] = (),
    options: SourceOptions | None = None,
    **how: Any,
) -> Prepared:
    """Read what is on disk and lay out every clip that is to be built; nothing is decoded.

    Args:
        spec: name of a dataset ("k400", "ssv2", "tinyvirat", "composite-518", ...), or a spec file's path.
        folders: source -> folder, such as {"kinetics": "/data/kinetics"}, or its address in a store.
        annotations: folders of annotations that do not lie beside the videos.
        options: about reading sources; by default as the command line's.
        how: `size`, `frames`, `fps`, `clips_per_shard`, `limit`, `strict_decode`, `transcoder` ("pyav" or
            "ffmpeg") and `exclude` (paths of lists), as of `vidkit build-dataset`.

    Raises:
        ConfigError: an unknown spec or source, no folder, a setting that cannot be.
        AnnotationError: a file or row that is not as its dataset's.
    """
    request = Request(
        spec=os.fspath(spec),
        folders={name: place(folder) for name, folder in folders.items()},
        annotations=tuple(place(folder) for folder in annotations),
        data=Path(os.devnull),  # only what is named
        options=options or SourceOptions(),
        **how,
    )
    check_transcoder(request.transcoder)
    chosen = choose_spec(request)
    assert chosen is not None  # a spec is named
    return prepare(*chosen, request)


def check_transcoder(name: str) -> None:
    """
    Raises:
        ConfigError: there is none of that name.
    """
    if name not in TRANSCODERS:
        raise ConfigError(f"--transcoder is {name!r}; expected {' or '.join(TRANSCODERS)}")


def build(
    planned: Prepared,
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    timeout_s: float = 120.0,
    retry_failed: bool = False,
    executor: str = "local",
    ray_address: str | None = None,
    scratch: str | os.PathLike[str] | None = None,
    scratch_limit: int = LIMIT_BYTES,
    quiet: bool = False,
) -> Built:
    """Make the planned dataset in a folder, or go on with it there. Clips that fail are rows of the ledger.

    Args:
        planned: of `plan`.
        out: the folder, or an address in a store ("s3://bucket/k400").
        workers: processes that transcode. The bytes do not depend on it.
        timeout_s: seconds that one clip may take.
        retry_failed: try the failed and missing clips of a finished build again.
        executor: who makes the shards: "local", or "ray": the nodes of a cluster, which see the same folders.
        ray_address: of the cluster; by default $RAY_ADDRESS, else one that is started here.
        scratch: folder, on whichever machine works, where archives that are compressed as a whole are inflated; by
            default each machine's $VIDKIT_SCRATCH, or its user's cache.
        scratch_limit: bytes that it may hold.
        quiet: no progress on stderr.

    Raises:
        ConfigError: no such executor, or no cluster.
        BuildError: another build is at work in the folder, or one of other settings; a full disk.
        Interrupted: Ctrl-C; what is done is kept, and the same call goes on.
    """
    check_executor(executor, ray_address)
    of = planned.settings
    encoder = encoder_of(of["transcoder"])
    settings = BuildSettings(
        out=place(out),
        roots=planned.roots,
        encode=planned.spec.encode,
        strict_decode=of["strict_decode"],
        transcoder=of["transcoder"],
        follow_symlinks=of["follow_symlinks"],
        timeout_s=timeout_s,
        workers=workers,
        executor=executor,
        ray_address=ray_address,
        retry_failed=retry_failed,
        sidecars=planned.spec.sidecars,
        scratch=os.fspath(scratch or ""),
        scratch_limit=scratch_limit,
    )
    with Progress("building", planned.table.num_rows, quiet=quiet) as progress:
        built = build_table(
            planned.table, settings, identity(planned, encoder), partial(describe, planned), progress
        )
    let_go()  # a build that was stopped goes on with what was inflated for it
    return built
