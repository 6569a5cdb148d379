"""Remakes the weights of the mini encoder: `make mini-encoder`, about five minutes on one core.

Trained on SynthRooms in the style "studio" and frozen; used on the style "site", which it never sees. The word table
comes first (`tools/mini_encoder/word_table.py`). Ends with the table that `evaluate.py` prints; `docs/mini-encoder.md`
has the numbers to expect.

Shape suffixes of locals: B batch, C channels, H W size of a picture, P sampled pixels, D embedding, K words.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from storage.labels import S3DIS13
from tools.mini_encoder.augment import augmented
from tools.mini_encoder.evaluate import print_scores, score_rooms
from tools.mini_encoder.pictures import Pictures, take_pictures
from workers.encoders import weights
from workers.encoders.mini import MiniEncoder, MiniNetwork
from workers.encoders.table_text import TableTextEncoder

SYNONYMS = {
    "ceiling": ("roof", "ceiling light"),
    "floor": ("floor tile", "carpet"),
    "wall": ("wallpaper", "partition"),
    "beam": ("truss", "structure"),
    "column": ("pillar", "support"),
    "window": ("window frame", "glass"),
    "door": ("closet door", "door frame"),
    "table": ("desk", "meeting table"),
    "chair": ("office chair", "seat"),
    "sofa": ("couch", "loveseat"),
    "bookcase": ("bookshelf", "shelves"),
    "board": ("whiteboard", "bulletin board"),
    "clutter": ("object", "storage bin"),
}
"""Words that pictures of a class are also captioned with, as web captions vary."""

DISTRACTORS = ("bed", "curtain", "bathtub", "toilet", "refrigerator", "lamp", "person", "plant", "stairs", "picture")
"""Words that no picture shows, so that the embeddings keep clear of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the weights are made; the defaults made the shipped ones."""

    rooms: int = 96
    views: int = 8
    steps: int = 950
    batch: int = 8
    pixels: int = 500
    """Pixels of a picture that enter the loss, half of them drawn evenly over its classes."""
    learning_rate: float = 2e-3
    temperature: float = 0.1
    synonym_share: float = 0.3
    seed: int = 0


def targets() -> tuple[Tensor, Tensor, Tensor]:
    """The words that the loss is over.

    Returns:
        (13,D) class embeddings; (13,D) the mean of each class's synonyms, unit norm; (K,D) distractors.
    """
    text = TableTextEncoder()
    classes = torch.from_numpy(text.embed_texts(S3DIS13.classes))
    synonyms = torch.stack([torch.from_numpy(text.embed_texts(SYNONYMS[c])).mean(0) for c in S3DIS13.classes])
    return classes, functional.normalize(synonyms, dim=1), torch.from_numpy(text.embed_texts(DISTRACTORS))


def sample_pixels(labels_BHW: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flat indices (B,P) of labelled pixels and their labels (B,P); half drawn evenly over the classes of a picture."""
    indices = []
    for labels_HW in labels_BHW:
        flat = labels_HW.flatten()
        share = torch.zeros(len(S3DIS13.classes) + 1)
        counts = torch.bincount(flat + 1, minlength=len(share)).float()
        share[counts > 0] = 1.0 / counts[counts > 0]
        weight = share / (counts > 0).sum() + 1.0 / flat.numel()
        weight[0] = 0.0
        indices.append(torch.multinomial(weight[flat + 1], count, replacement=True, generator=generator))
    chosen = torch.stack(indices)
    return chosen, torch.gather(labels_BHW.flatten(1), 1, chosen)


def loss_of(network: MiniNetwork, images: Tensor, labels: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
    """Cross-entropy over the words, and the distance to the embedding of the caption's word."""
    classes, synonyms, distractors = targets()
    features_BCHW = network(images)
    at_BP, label_BP = sample_pixels(labels[:, 2::4, 2::4].contiguous(), plan.pixels, generator)
    taken_BCP = torch.gather(features_BCHW.flatten(2), 2, at_BP[:, None].expand(-1, features_BCHW.shape[1], -1))
    embeddings_PD = network.project(taken_BCP.transpose(1, 2).reshape(-1, features_BCHW.shape[1])).float()
    label_P = label_BP.flatten()
    logits_PK = embeddings_PD @ torch.cat((classes, distractors)).T / plan.temperature
    varied = functional.normalize((1 - plan.synonym_share) * classes + plan.synonym_share * synonyms, dim=1)
    distance = (embeddings_PD - varied[label_P]).square().sum(dim=1).mean()
    loss: Tensor = functional.cross_entropy(logits_PK, label_P) + distance
    return loss


def train(pictures: Pictures, plan: Plan) -> MiniNetwork:
    """A network trained on `pictures`; equal input gives equal weights on one machine and number of threads."""
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    network = MiniNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=plan.learning_rate, total_steps=plan.steps, pct_start=0.15
    )
    started = time.monotonic()
    for step in range(plan.steps):
        chosen = rng.choice(len(pictures.images), plan.batch, replace=False)
        batch = [augmented(pictures.images[i], pictures.labels[i], rng) for i in chosen]
        images = torch.from_numpy(np.stack([b[0] for b in batch])).permute(0, 3, 1, 2)
        labels = torch.from_numpy(np.stack([b[1] for b in batch])).long()
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the processor knows it
            loss = loss_of(network, images, labels, plan, generator)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 25 == 0 or step == plan.steps - 1:
            seconds = time.monotonic() - started
            print(f"step {step} of {plan.steps}: loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
    network.eval()
    return network


def save(network: MiniNetwork, path: Path) -> None:
    """Writes the weights, float16."""
    state = {k: v.half().contiguous() for k, v in network.state_dict().items() if v.is_floating_point()}
    # one entry: several would be written in any order, and equal weights would not be equal files
    save_file(state, path, metadata={"made_by": "tools/mini_encoder/train.py"})


def main() -> None:
    """Takes the pictures, trains, writes the weights and their digest, and scores them on rooms of the other style."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=weights.NETWORK, help="file of weights to write")
    parser.add_argument("--cache", type=Path, help="file to keep the rendered pictures in")
    parser.add_argument("--threads", type=int, default=1, help="more are faster and give slightly other weights")
    parser.add_argument("--steps", type=int, default=Plan().steps)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plan = Plan(steps=options.steps)
    pictures = take_pictures("studio", plan.rooms, plan.views, options.threads, options.cache)
    save(train(pictures, plan), options.out)
    if options.out == weights.NETWORK:
        weights.record_digests()
    print_scores(score_rooms(MiniEncoder(options.threads, path=options.out)))


if __name__ == "__main__":
    main()
