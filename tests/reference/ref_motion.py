"""What a clip's pictures say of its class, and what its motion says: two descriptors, slow and obvious.

The first sees all that does not depend on time: the mean of all frames. The second follows what moves: it undoes
the camera's shaking by trying shifts, takes what differs from the median of all frames, and keeps where that is
and how large it is in each frame.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def still_features(clip: npt.NDArray[np.uint8]) -> Floats:
    """(T, H, W, 3) -> the mean frame, in grey, mean 0 and norm 1: (H * W,)."""
    grey = clip.astype(np.float64).mean(axis=(0, 3)).ravel()
    grey -= grey.mean()
    return grey / np.linalg.norm(grey)


def motion_features(clip: npt.NDArray[np.uint8]) -> Floats:
    """(T, H, W, 3) -> the course of the place and the size of what moves, against the first frame: (3 * T,)."""
    grey = clip.astype(np.float64).mean(axis=3)
    height, width = grey.shape[1:]
    steady = _steadied(grey)
    different = np.abs(steady - np.median(steady, axis=0))
    different[different < 20] = 0
    places, sizes = [], []
    for frame in different:
        # the picture has no edges, so the mean of places is taken on circles
        angle_y, angle_x = (2j * np.pi * np.arange(size) / size for size in (height, width))
        places.append(
            (
                np.angle((frame.sum(axis=1) * np.exp(angle_y)).sum()) / (2 * np.pi),
                np.angle((frame.sum(axis=0) * np.exp(angle_x)).sum()) / (2 * np.pi),
            )
        )
        sizes.append((frame > 0).mean())
    course = np.unwrap(np.array(places), period=1.0, axis=0)
    course -= course[0]
    return np.concatenate([course.T.ravel(), np.array(sizes)])


def _steadied(frames: Floats) -> Floats:
    """Each frame shifted to look like the first; the camera moves by a pixel at most from one to the next."""
    shift, found = (0, 0), []
    for frame in frames:
        near = [(shift[0] + y, shift[1] + x) for y, x in itertools.product((-1, 0, 1), repeat=2)]
        unlike = [float(np.median(np.abs(np.roll(frame, one, axis=(0, 1)) - frames[0]))) for one in near]
        shift = near[unlike.index(min(unlike))]
        found.append(np.roll(frame, shift, axis=(0, 1)))
    return np.stack(found)


def nearest_mean_accuracy(train: Floats, train_labels: list[int], test: Floats, test_labels: list[int]) -> float:
    """Share of `test` (n, features) that lies nearest to the mean of its own class in `train`."""
    classes = sorted(set(train_labels))
    means = [np.mean([x for x, c in zip(train, train_labels, strict=True) if c == one], axis=0) for one in classes]
    right = 0
    for features, label in zip(test, test_labels, strict=True):
        distances = [float(np.linalg.norm(features - mean)) for mean in means]
        right += classes[distances.index(min(distances))] == label
    return right / len(test_labels)
