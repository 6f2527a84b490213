"""The paper's rule for overlapping ROIs, pixel by pixel."""

import numpy as np


def flatten_slowly(stack: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    areas = [int(mask.sum()) for mask in stack]
    there = set(range(len(stack)))
    removed = []
    for index in sorted(range(len(stack)), key=lambda i: (areas[i], i)):
        others = [stack[i] for i in there if i != index]
        covered = np.any(others, axis=0) if others else np.zeros_like(stack[0])
        if areas[index] and (stack[index] & covered).sum() / areas[index] > 0.75:
            there.discard(index)
            removed.append(index)
    kept = sorted(there)
    centroids = {i: np.argwhere(stack[i]).mean(axis=0) for i in kept if areas[i]}
    owner = np.full(stack.shape[1:], -1)
    for y in range(stack.shape[1]):
        for x in range(stack.shape[2]):
            covering = [i for i in kept if stack[i, y, x]]
            if covering:
                owner[y, x] = min(covering, key=lambda i: ((centroids[i] - (y, x)) ** 2).sum())
    labels = np.zeros(stack.shape[1:], np.int32)
    for number, index in enumerate(np.unique(owner[owner >= 0]), start=1):
        labels[owner == index] = number
    return labels, tuple(sorted(removed))
