"""Turn foreign files into safe ones in a child process that has limits.

A checkpoint of Cellpose is a pickle. It is read with `weights_only`, by a process that may take so
much memory and time and no more; what comes out is a safetensors file that this process reads.
"""

import gc
import resource
import subprocess
import sys
from pathlib import Path

from cellwatch.errors import CellwatchError, WeightsError

MEMORY = 12 << 30  # bytes of address space; importing torch alone reserves some
SECONDS = 300
LIMITS = {resource.RLIMIT_AS: MEMORY, resource.RLIMIT_CPU: SECONDS, resource.RLIMIT_CORE: 0}
REFUSED = 65  # EX_DATAERR: the file is at fault; a traceback ends with 1


def in_child(kind: str, source: Path, target: Path, *arguments: str) -> str:
    """Convert a foreign file.

    Parameters
    ----------
    kind : "checkpoint", "size" or "styles"
    source : Path
    target : Path
        Written by the child; safetensors.
    arguments : str
        Of the kind.

    Returns
    -------
    str
        What a person should know of the file; "": nothing.

    Raises
    ------
    WeightsError
        When the file is not what it should be, or the child ran into a limit.
    """
    # -P: nothing in the person's current folder is imported.
    command = [sys.executable, "-P", "-m", "cellwatch.zoo.limited", kind, str(source), str(target)]
    try:
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{source} took longer than {SECONDS} s to read; given up") from error
    if done.returncode == 0:
        return done.stdout.strip()
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    if done.returncode == REFUSED:
        raise WeightsError(reason)
    raise WeightsError(
        f"{source}: the process that read it ended with {done.returncode} ({reason or 'no reason'})"
    )


def main() -> None:
    """Convert the file that the arguments name, under limits."""
    kind, source, target, *arguments = sys.argv[1:]
    gc.disable()  # its life is short: to look for garbage in what torch made is half a second of it
    for what, most in LIMITS.items():
        _, allowed = resource.getrlimit(what)  # whoever started this may have set a lower one
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(what, (most, most))
    try:
        CONVERTERS[kind](Path(source), Path(target), *arguments)
    except CellwatchError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    except MemoryError:
        sys.stderr.write(f"{source} needs more than {MEMORY >> 30} GiB to read\n")
        sys.exit(REFUSED)
    finally:
        gc.freeze()


def _checkpoint(source: Path, target: Path, diam_mean: str = "") -> None:
    from cellwatch.zoo.weights import read_checkpoint, save_network

    network, note = read_checkpoint(source, float(diam_mean) if diam_mean else None)
    save_network(network, target, is_half=False)
    sys.stdout.write(note)


def _size(source: Path, target: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from cellwatch.zoo.pickles import read_pickled_dict

    held = read_pickled_dict(source)
    if lacking := {"A", "smean", "diam_mean", "ymean"} - set(held):
        raise WeightsError(f"{source} is not a size model: it lacks {', '.join(sorted(lacking))}")
    try:
        names = ("A", "smean", "diam_mean", "ymean")
        arrays = {key: np.asarray(held[key], np.float64).ravel() for key in names}
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{source} is not a size model: {error}") from error
    is_single = arrays["diam_mean"].size == arrays["ymean"].size == 1
    are_numbers = all(np.isfinite(array).all() for array in arrays.values())
    if (
        arrays["A"].shape != arrays["smean"].shape
        or not (is_single and are_numbers)
        or arrays["diam_mean"][0] <= 0
    ):
        raise WeightsError(f"{source} is not a size model: its arrays do not fit each other")
    save_file(arrays, target)


def _styles(source: Path, target: Path) -> None:
    import json

    import numpy as np
    from safetensors.numpy import save_file

    from cellwatch.zoo.pickles import read_pickled_dict

    held = read_pickled_dict(source)
    if lacking := {"train_styles", "leiden_labels", "label_models"} - set(held):
        raise WeightsError(
            f"{source} is not a choice of styles: it lacks {', '.join(sorted(lacking))}"
        )
    try:
        styles = np.asarray(held["train_styles"], np.float32)
        labels = np.asarray(held["leiden_labels"]).astype(np.int64).ravel()
        models = [str(name) for name in np.asarray(held["label_models"]).ravel()]
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{source} is not a choice of styles: {error}") from error
    if styles.ndim != 2 or len(styles) != len(labels) or not len(labels):
        raise WeightsError(f"{source}: {styles.shape} styles and {labels.shape} labels do not fit")
    if labels.min() < 0 or labels.max() >= len(models):
        raise WeightsError(f"{source}: labels to {labels.max()}, {len(models)} models")
    save_file({"styles": styles, "labels": labels}, target, {"models": json.dumps(models)})


CONVERTERS = {"checkpoint": _checkpoint, "size": _size, "styles": _styles}

if __name__ == "__main__":
    main()
