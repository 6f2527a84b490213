"""Commands on zoos: build one, and look at a classifier."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellwatch.cli.console import JsonOption, print_json, print_table, tell
from cellwatch.cli.segment import DeviceOption, PrecisionOption, ZooOption
from cellwatch.errors import UsageError
from cellwatch.training.plans import LEAST_EPOCHS, SCHEDULES, FitPlan, with_steps

if TYPE_CHECKING:
    from cellwatch.workflows.zoo.scores import SetScore

zoo_app = typer.Typer(
    help="Build and show zoos: several models, chosen by the style of an image.",
    no_args_is_help=True,
)

IMAGES_PER_EPOCH = 16
_REUSE = re.compile(r"([^=]+)=([^=]+)$")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(zoo_app, name="zoo")


@zoo_app.command("build")
def build(
    data: Annotated[
        list[Path],
        typer.Option(
            help="A set (with sub-folders train and test), or a folder of sets; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the zoo.")],
    style_model: Annotated[
        str,
        typer.Option(help="Computes the styles; segments what is unlike all clusters."),
    ] = "general",
    generalist: Annotated[
        str, typer.Option(help="Network to compare with; 'train': one trained on all clusters.")
    ] = "general",
    reuse: Annotated[
        list[str] | None,
        typer.Option(help="SET=MODEL: clusters that are mostly of SET use MODEL; repeatable."),
    ] = None,
    kind: Annotated[
        Literal["cyto", "nuclei"], typer.Option(help="Which clustering of the paper.")
    ] = "cyto",
    subset: Annotated[
        float, typer.Option(min=0.01, max=1, help="Fraction of each set that is clustered.")
    ] = 1.0,
    steps: Annotated[
        int | None,
        typer.Option(min=LEAST_EPOCHS, help="Number of batches for each network that is trained."),
    ] = None,
    images_per_epoch: Annotated[
        int | None,
        typer.Option(min=8, help="Images per epoch; else 16, or 8 in a short run."),
    ] = None,
    diam_mean: Annotated[float, typer.Option(min=1, help="Network diameter in px.")] = 30.0,
    seed: Annotated[int, typer.Option()] = 0,
    precision: PrecisionOption = "auto",
    licence: Annotated[str, typer.Option(help="Licence of the data, for the cards.")] = "",
    cluster_only: Annotated[
        bool, typer.Option("--cluster-only", help="Stop after the clustering and its map.")
    ] = False,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Cluster images by style, train a network for each cluster, and score them together."""
    from cellwatch.compute.device import choose_device, keep_freed_memory, precision_on
    from cellwatch.workflows.zoo.build import build_zoo
    from cellwatch.workflows.zoo.clusters import CLUSTERS
    from cellwatch.workflows.zoo.plots import COMPARISON, MAP, draw_comparison, draw_map
    from cellwatch.workflows.zoo.request import GENERALIST, ZooRequest, find_sets
    from cellwatch.workflows.zoo.scores import mean_scores, score_zoo
    from cellwatch.zoo.catalog import hold_model

    keep_freed_memory()
    chosen = choose_device(device)
    plan = FitPlan(
        "generalist",
        SCHEDULES["generalist"].epochs,
        images_per_epoch=images_per_epoch or IMAGES_PER_EPOCH,
        seed=seed,
        precision=precision_on(chosen, precision),
    )
    if steps:
        plan = with_steps(plan, steps, is_fixed=images_per_epoch is not None)
    request = ZooRequest(
        sets=find_sets(data),
        style_model=style_model,
        reuse=_reused(reuse or []),
        generalist="" if generalist == "train" else generalist,
        plan=plan,
        kind=kind,
        subset=subset,
        diam_mean=diam_mean,
        licence=licence,
    )
    table, found = build_zoo(request, out, chosen, tell, is_clustered_only=cluster_only)
    draw_map(table, found, out / MAP)
    if cluster_only:
        _show_clusters(dict(found.report), as_json=as_json)
        tell(f"the clusters are in {out / CLUSTERS}, the map of the styles in {out / MAP}")
        return
    against = hold_model(request.generalist, out) if request.generalist else GENERALIST
    results = score_zoo(request.sets, out, against, chosen, plan.precision, tell)
    draw_comparison(results, against, out / COMPARISON)
    means = mean_scores(results, against)
    if as_json:
        sets = [{**asdict(r), "best": r.best} for r in results]
        print_json({"clusters": dict(found.report), "sets": sets, "means": means})
        return
    _show_clusters(dict(found.report), as_json=False)
    _show_scores(results, means, against)
    tell(f"{out} is a zoo now; use it: --model auto --zoo {out}")


@zoo_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Classifier: auto, or its folder.")] = "auto",
    as_json: JsonOption = False,
    zoo: ZooOption = None,
) -> None:
    """Show the models that a classifier chooses from."""
    from cellwatch.zoo.classifiers import require_classifier

    card = require_classifier(name, zoo).card
    if as_json:
        print_json(asdict(card))
        return
    rows = [
        [c.name, c.model, str(c.images), ", ".join(f"{s} {n}" for s, n in c.sets.items())]
        for c in card.clusters
    ]
    tell(f"{card.id}: {len(card.images)} known styles, by the network {card.style_model}")
    print_table("", ["cluster", "model", "images", "image types"], rows)


def _reused(texts: list[str]) -> dict[str, str]:
    reused = {}
    for text in texts:
        match = _REUSE.match(text)
        if not match:
            raise UsageError(f"--reuse: '{text}' is not SET=MODEL")
        reused[match[1].strip()] = match[2].strip()
    return reused


def _show_clusters(report: "dict[str, object]", *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    if report["clusters"] == 1:
        tell("with one cluster, purity and stability mean nothing; give more images, or more kinds")
    for key in ("purity_by_set", "purity_by_modality", "stability_of_halves"):
        tell(f"{key.replace('_', ' ')}: {report[key]:.3f}")
    accuracy = report["modality_accuracy_on_test"]
    if accuracy is not None:
        tell(f"modality by the five nearest neighbours, on test images: {accuracy:.3f} right")


def _show_scores(results: "list[SetScore]", means: dict[str, float], against: str) -> None:
    rows = [
        [
            r.name,
            str(r.images),
            f"{r.by_model[against]:.3f}",
            f"{r.auto:.3f}",
            f"{r.by_model[r.best]:.3f} ({r.best})",
            ", ".join(f"{name} {n}" for name, n in r.chosen.items()),
        ]
        for r in results
    ]
    rows.append(["mean", "", *(f"{mean:.3f}" for mean in means.values()), ""])
    print_table("", ["set", "images", against, "auto", "best by hand", "chosen"], rows)
