"""What `experiment=cars_half_lite0` does, without this package: a figure for its own to be level with.

    python scripts/plain_loop.py …/cars196_train tf_efficientnet_lite0-imagenet.pth --lr 3e-4 --seed 0

A plain PyTorch loop: EfficientNet-Lite0 of timm, a linear head, the multi-similarity loss one anchor at a time,
Recall@1 by brute force. Batches are drawn otherwise than `dml` draws them, so the same seed is another run.
"""

import argparse
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

RESIZE, CROP = v2.Resize(128), v2.CenterCrop(112)
AUGMENT = v2.Compose([v2.RandomResizedCrop(112, scale=(0.25, 1.0)), v2.RandomHorizontalFlip()])


class Photos(Dataset):
    def __init__(self, files: list[tuple[Path, int]], transform: v2.Transform) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, n: int) -> tuple[Tensor, int]:
        file, label = self.files[n]
        image = self.transform(RESIZE(Image.open(file).convert("RGB")))
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() - 127) / 128, label


class Network(nn.Module):
    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.backbone = timm.create_model("tf_efficientnet_lite0")
        self.backbone.load_state_dict(torch.load(weights, weights_only=True))
        self.backbone.reset_classifier(0)
        self.backbone.to(memory_format=torch.channels_last)
        self.head = nn.Linear(self.backbone.num_features, 512)
        nn.init.kaiming_normal_(self.head.weight, mode="fan_out")
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        self.backbone.eval()  # batch norm keeps its statistics; the network has no dropout here
        features = self.backbone(images.to(memory_format=torch.channels_last))
        return nn.functional.normalize(self.head(features))


def multi_similarity(z: Tensor, y: Tensor) -> Tensor:
    losses, S = [z.sum() * 0], z @ z.T
    for i in range(len(z)):
        same = y == y[i]
        positive, negative = S[i][same & (torch.arange(len(y)) != i)], S[i][~same]
        hard_positive = positive[positive - 0.1 < negative.max()]
        hard_negative = negative[negative + 0.1 > positive.min()]
        if len(hard_positive) and len(hard_negative):
            losses.append(torch.log1p(torch.exp(-2 * (hard_positive - 0.5)).sum()) / 2)
            losses.append(torch.log1p(torch.exp(40 * (hard_negative - 0.5)).sum()) / 40)
    return torch.stack(losses).sum() / len(z)


def batches(labels: list[int], steps: int, rng: random.Random) -> list[list[int]]:
    members = defaultdict(list)
    for n, label in enumerate(labels):
        members[label].append(n)
    return [
        [n for label in rng.sample(sorted(members), 16) for n in rng.sample(members[label], 5)]
        for _ in range(steps)
    ]


@torch.no_grad()
def recall_at_1(network: Network, photos: Photos) -> float:
    found = [(network(images), labels) for images, labels in DataLoader(photos, 128, num_workers=2)]
    z, y = (torch.cat(parts) for parts in zip(*found, strict=True))
    nearest = (z @ z.T).fill_diagonal_(-2).argmax(dim=1)
    return (y[nearest] == y).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "root", type=Path, help="folder of class folders; the first half of the classes trains"
    )
    parser.add_argument("weights", type=Path, help="state dict of timm's tf_efficientnet_lite0")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    classes = sorted(folder.name for folder in args.root.iterdir())
    files = [(file, n) for n, name in enumerate(classes) for file in sorted((args.root / name).iterdir())]
    train, test = ([f for f in files if (f[1] < len(classes) // 2) == first] for first in (True, False))
    network = Network(args.weights)
    optimizer = torch.optim.Adam(
        [
            {"params": network.backbone.parameters(), "lr": args.lr},
            {"params": network.head.parameters(), "lr": 10 * args.lr},
        ],
        weight_decay=5e-4,
    )
    milestones = [round(0.4 * args.steps), round(0.8 * args.steps)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    drawn = batches([label for _, label in train], args.steps, random.Random(args.seed))
    for images, labels in DataLoader(Photos(train, AUGMENT), batch_sampler=drawn, num_workers=2):
        optimizer.zero_grad()
        multi_similarity(network(images), labels).backward()
        optimizer.step()
        scheduler.step()
    print(f"Recall@1 {recall_at_1(network, Photos(test, CROP)):.4f}")


if __name__ == "__main__":
    main()
