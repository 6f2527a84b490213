r"""The same folder under the name that another computer has for it: `D:\data` is `/mnt/scope`."""

from pathlib import PurePosixPath, PureWindowsPath

from cellwatch.config.schema import Config


def here(config: Config, name: str) -> str:
    r"""Return a path of another computer as this one has it; any other text as it is.

    Upper and lower case are the same in what `paths` maps, as are both kinds of slashes.
    """
    longest = sorted(config.paths.items(), key=lambda pair: -len(pair[0]))
    for theirs, ours in longest:
        root, path = PureWindowsPath(theirs), PureWindowsPath(name)
        if path.is_relative_to(root):
            return str(ours.joinpath(*path.relative_to(root).parts))
    return name


def there(config: Config, path: str) -> str:
    """Return what another computer calls a path of this one; "": `paths` maps none to it."""
    longest = sorted(config.paths.items(), key=lambda pair: -len(str(pair[1])))
    for theirs, ours in longest:
        if PurePosixPath(path).is_relative_to(ours):
            below = PurePosixPath(path).relative_to(ours)
            return str(PureWindowsPath(theirs, *below.parts))
    return ""
