"""A zoo with one tiny model, what it knows of styles, and a classifier of one cluster."""

from dataclasses import replace

import numpy as np
import torch

from cellwatch.compute.models import ready_model
from cellwatch.core.parameters import SegmentationParams
from cellwatch.core.styles import classifier_of
from cellwatch.records import ClassifierCard, ClusterCard
from cellwatch.training.plans import FitPlan
from cellwatch.training.styling import native_style, style_facts
from cellwatch.zoo.cards import ModelPlace
from cellwatch.zoo.catalog import add_model, load_model
from cellwatch.zoo.classifiers import add_classifier
from tests.discs import disc_images


def write_style_zoo(folder, place):
    network = load_model(place)
    images = disc_images(8)
    facts = style_facts(network, images, SegmentationParams(), FitPlan("online", 100))
    card = add_model(folder / "discs", network, replace(place.card, id="discs"), styles=facts)
    model = ready_model(ModelPlace(folder / "discs", card), torch.device("cpu"))
    styles = np.stack([native_style(model.network, i, SegmentationParams()) for i in images])
    card = ClassifierCard(
        id="auto",
        sha256="",
        styles_sha256="",
        style_model="discs",
        style_model_sha256=card.sha256,
        clusters=(ClusterCard("round things", "discs", card.sha256, 8),),
        images=tuple(image.name for image in images),
    )
    add_classifier(folder / "auto", classifier_of(styles, np.zeros(8, np.int64)), card)
    return folder
