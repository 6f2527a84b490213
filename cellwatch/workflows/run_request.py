"""What a training run was asked to be; kept in its folder, so that it can continue."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cellwatch.errors import TrainingError
from cellwatch.files.atomic import write_json
from cellwatch.records import ChannelChoice
from cellwatch.training.plans import FitPlan, plan_from
from cellwatch.zoo.cards import CARD, RUN


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a person asked a training run to be; kept in the run folder, so that it can resume.

    Attributes
    ----------
    data : tuple of str
        Folders of pairs.
    start : str
        A model, or `scratch`.
    plan : FitPlan
    channels : ChannelChoice
    diam_mean : float, px
        Of a network from scratch; 0: the one of the model it starts from.
    licences : tuple of str
        Of each folder of data, for the card.
    model_id : str
    zoo : str or None
    cluster : str
        The part of the data that a zoo trains it on; "": all.
    tests : tuple of str
        Folders of pairs to score the result on, for the card; nothing is chosen by them.
    about : str
        What the model is for, for the card.
    content : str
        Digest of the images and masks that the run began with.
    """

    data: tuple[str, ...]
    start: str
    plan: FitPlan
    channels: ChannelChoice
    diam_mean: float
    licences: tuple[str, ...]
    model_id: str
    zoo: str | None
    cluster: str = ""
    tests: tuple[str, ...] = ()
    about: str = ""
    content: str = ""

    def write(self, folder: Path) -> None:
        """Keep the request in the run folder."""
        write_json(folder / RUN, asdict(self), indent=2)

    @classmethod
    def read(cls, folder: Path) -> "RunRequest":
        """Read the request of a run folder.

        Raises
        ------
        TrainingError
            When the folder holds no run.
        """
        try:
            data = json.loads((folder / RUN).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TrainingError(
                f"{folder} holds no training run to resume (there is no {folder / RUN}); "
                "name the folder that was --out"
            ) from error
        except (OSError, ValueError) as error:
            raise TrainingError(f"{folder / RUN} cannot be read: {error}") from error
        changes = {
            "data": tuple(data["data"]),
            "licences": tuple(data["licences"]),
            "tests": tuple(data.get("tests", ())),
            "plan": plan_from(data["plan"]),
            "channels": ChannelChoice(**data["channels"]),
        }
        return cls(**{**data, **changes})


def refuse_finished(folder: Path) -> None:
    """Refuse to train in a folder whose run has ended.

    Raises
    ------
    TrainingError
    """
    if (folder / CARD).exists():
        raise TrainingError(f"{folder} holds a finished model; train into another folder")


def check_folder(folder: Path, request: RunRequest, *, has_plan: bool) -> None:
    """See that a run can go into its folder, before its images are read.

    Parameters
    ----------
    folder : Path
    request : RunRequest
    has_plan : bool
        Whether its plan is the one that it will have; a budget fixes it later.

    Raises
    ------
    TrainingError
        When the folder is none, or holds a finished model or another run.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file; name a folder for the run")
    refuse_finished(folder)
    if (folder / RUN).exists():
        begun = RunRequest.read(folder)
        plan = request.plan if has_plan else begun.plan
        refuse_another(begun, replace(request, content=begun.content, plan=plan), folder)


def refuse_another(begun: RunRequest, request: RunRequest, folder: Path) -> None:
    """Refuse to continue a run that was begun as another, or on other images.

    Raises
    ------
    TrainingError
    """
    if begun == request or not begun.content:  # runs of the first version kept no content
        return
    if replace(begun, content=request.content) == request:
        raise TrainingError(
            f"the images or masks of {', '.join(request.data)} changed since the run in {folder} "
            "began; put them back, or train into another folder"
        )
    raise TrainingError(
        f"{folder} holds another run; continue it: cellwatch train --resume {folder}, "
        "or train into another folder"
    )
