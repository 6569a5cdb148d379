"""Embed labels: class names into the encoder's space, unit norm. Source: section 3.1, text embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from storage.artifacts.store import WHOLE
from storage.errors import SpecInvalid
from storage.labels import label_set
from storage.specs.stages import EmbedLabels
from workers.context import Context
from workers.encoders import choose


def external_inputs(context: Context) -> Mapping[str, str]:
    """The digest of the text encoder's weights."""
    return {"weights": choose.text_digest(_spec(context).encoder, context.machine.weights)}


def run(context: Context) -> None:
    """Writes F^C, one row a class in label order.

    Raises:
        SpecInvalid: another number of words than the label set has classes.
        UnknownClass: a word that the text encoder does not know.
    """
    spec = _spec(context)
    classes = label_set(spec.label_set).classes
    words = spec.class_names or classes
    if len(words) != len(classes):
        raise SpecInvalid(f"got {len(words)} class names, the label set {spec.label_set} has {len(classes)} classes")
    encoder = choose.text_encoder(spec.encoder, context.machine.weights)
    with context.scene_part("text_embeddings", WHOLE, context.external) as part:
        if part is not None:
            part.write("embeddings", encoder.embed_texts(words))
            part.set(label_set=spec.label_set, classes=list(classes), words=list(words), encoder=dict(encoder.about))
    context.publish("text_embeddings", label_set=spec.label_set, dimension=encoder.dimension)


def _spec(context: Context) -> EmbedLabels:
    assert isinstance(context.spec, EmbedLabels)
    return context.spec
