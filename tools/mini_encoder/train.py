"""Remakes the weights of the mini encoder: `make mini-encoder`, about eight minutes on one core.

Trained on SynthRooms in the style "studio" and frozen; used on the style "site", which it never sees. The word table
comes first (`tools/mini_encoder/word_table.py`). Ends with the tables that `evaluate.py` prints, of both domains;
`docs/mini-encoder.md` has the numbers to expect.

Shape suffixes of locals: B batch, C channels, H W size of a picture, P sampled pixels, D embedding, K words.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from storage.labels import IGNORE
from tools.mini_encoder.augment import augmented
from tools.mini_encoder.captions import words_of
from tools.mini_encoder.evaluate import print_scores, score_rooms
from tools.mini_encoder.pictures import DOMAINS, Pictures, take_pictures
from workers.encoders import weights
from workers.encoders.mini import MiniEncoder, MiniNetwork
from workers.scenes.rooms.domains import DomainName


@dataclass(frozen=True, slots=True)
class Plan:
    """How the weights are made; the defaults made the shipped ones."""

    rooms: int = 96
    """Of each domain."""
    views: int = 8
    steps: int = 2000
    batch: int = 8
    pixels: int = 500
    """Pixels of a picture that enter the loss, half of them drawn evenly over its classes."""
    learning_rate: float = 2e-3
    temperature: float = 0.1
    synonym_share: float = 0.3
    seed: int = 0


def sample_pixels(labels_BHW: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flat indices (B,P) of labelled pixels and their labels (B,P); half drawn evenly over the classes of a picture.

    A picture without any labelled pixel gives pixels with the label -1, which enter no loss.
    """
    indices = []
    for labels_HW in labels_BHW:
        flat = labels_HW.flatten()
        counts = torch.bincount(flat + 1).float()
        counts[0] = 0.0
        shown = counts > 0
        weight = torch.zeros_like(counts) if shown.any() else torch.ones_like(counts)
        weight[shown] = 1.0 / counts.sum() + 1.0 / (shown.sum() * counts[shown])
        indices.append(torch.multinomial(weight[flat + 1], count, replacement=True, generator=generator))
    chosen = torch.stack(indices)
    return chosen, torch.gather(labels_BHW.flatten(1), 1, chosen)


def loss_of(
    network: MiniNetwork,
    images: Tensor,
    labels: Tensor,
    domains: Sequence[DomainName],
    plan: Plan,
    generator: torch.Generator,
) -> Tensor:
    """Cross-entropy over the words of each picture's domain, and the distance to the embedding of the caption's word.

    Args:
        network: what learns.
        images: (B,3,H,W) float32 in -1..1.
        labels: (B,H,W) int64 of the label set of the picture's domain.
        domains: B domains.
        plan: pixels a picture, temperature and share of synonyms.
        generator: draws the pixels.

    Returns:
        The mean over all sampled pixels.
    """
    features_BCHW = network(images)
    at_BP, label_BP = sample_pixels(labels[:, 2::4, 2::4].contiguous(), plan.pixels, generator)
    taken_BCP = torch.gather(features_BCHW.flatten(2), 2, at_BP[:, None].expand(-1, features_BCHW.shape[1], -1))
    embeddings_BPD = network.project(taken_BCP.transpose(1, 2)).float()
    total = torch.zeros(())
    for domain in sorted(set(domains)):
        of_domain = torch.tensor([d == domain for d in domains])
        embeddings_PD, label_P = embeddings_BPD[of_domain].flatten(0, 1), label_BP[of_domain].flatten()
        words = words_of(domain)
        logits_PK = embeddings_PD @ torch.cat((words.classes, words.distractors)).T / plan.temperature
        varied = (1 - plan.synonym_share) * words.classes + plan.synonym_share * words.synonyms
        distance_P = (embeddings_PD - functional.normalize(varied, dim=1)[label_P]).square().sum(dim=1)
        total = total + functional.cross_entropy(logits_PK, label_P, ignore_index=IGNORE, reduction="sum")
        total = total + distance_P[label_P != IGNORE].sum()
    return total / label_BP.numel()


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
        domains = [pictures.domains[i] for i in chosen]
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the processor knows it
            loss = loss_of(network, images, labels, domains, plan, generator)
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
    encoder = MiniEncoder(options.threads, path=options.out)
    for domain in DOMAINS:
        print(f"\n{domain}, style site, series 1001")
        print_scores(score_rooms(encoder, domain))


if __name__ == "__main__":
    main()
