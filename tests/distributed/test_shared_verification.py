"""Verification on one process and on two: every image is embedded once, the figures are the same to the last digit."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from fake_benchmarks import write_tree
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from worlds import in_world

from dml.config.build import build_model
from dml.config.cli import CONF
from dml.runs.verification import EmbeddingCollector, verify


class Counted(EmbeddingCollector):
    seen: list[int] = []  # noqa: RUF012

    def on_test_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *index: int) -> None:
        Counted.seen += batch["index"].tolist()
        super().on_test_batch_end(trainer, module, outputs, batch, *index)


def verified(folder: Path, source: Path) -> tuple[dict[str, Any], list[int]]:
    import dml.runs.verification as module

    module.EmbeddingCollector = Counted  # type: ignore[misc]
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose(
            "evaluate",
            [
                f"run_dir={folder}",
                f"ckpt_path={source}/x.ckpt",
                "protocol=verification",
                f"dataset.pairs={source}/pairs.txt",
                f"dataset.root={source}/faces",
                "data.num_workers=0",
                "+trainer.enable_progress_bar=false",
                "callbacks.progress=null",
                "trainer.accelerator=cpu",
                "trainer.strategy=ddp",
                f"trainer.devices={dist.get_world_size()}",
            ],
        )
    return verify(config), Counted.seen


def test_two_processes_share_the_images(tmp_path: Path) -> None:
    write_tree(tmp_path / "faces", {f"person {i}": 4 for i in range(6)})
    lines = []
    for n in range(20):
        label = 1 - n % 2
        lines += [
            f"person {n % 6}/{n % 4}.png {label}",
            f"person {(n + n % 2) % 6}/{(n + 1) % 4}.png {label}",
        ]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose(
            "train",
            [
                "dataset=folder",
                "model=convnet",
                "data.eval_batch_size=3",
                "dataset.resize=null",
                "dataset.eval_transform=null",
            ],
        )
    weights = {f"embedder.{key}": value for key, value in build_model(config.model).state_dict().items()}
    content = {"state_dict": weights, "config": OmegaConf.to_container(config, resolve=False)}
    torch.save(content, tmp_path / "x.ckpt")
    [(alone, seen)] = in_world(1, tmp_path / "1", verified, tmp_path)
    together = in_world(2, tmp_path / "2", verified, tmp_path)
    assert [figures for figures, _ in together] == [alone, alone]
    shares = [set(indices) for _, indices in together]
    assert sorted(seen) == list(range(alone["images"]))
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(seen)
