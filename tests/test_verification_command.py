"""Verification with a checkpoint, from the list of pairs to the files that it writes."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_benchmarks import write_image, write_tree
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from dml.config.build import build, build_model
from dml.config.check import check_config
from dml.data.read_image import read_image
from dml.errors import UserError
from dml.runs.evaluation import evaluate
from dml.runs.verification import run, verify

Compose = Callable[..., DictConfig]
TRAIN = (
    "dataset=folder",
    "dataset.root=nowhere",  # the data set of the run may be gone
    "model=convnet",
    "model.blocks=2",
    "data.eval_batch_size=7",
    "dataset.resize.size=16",
    "dataset.eval_transform.size=12",
)
BOTH = ("protocol=verification", "dataset.pairs=pairs.txt", "dataset.root=faces")


def save_checkpoint(config: DictConfig, file: Path) -> None:
    weights = {f"embedder.{key}": value for key, value in build_model(config.model).state_dict().items()}
    torch.save({"state_dict": weights, "config": OmegaConf.to_container(config, resolve=False)}, file)


@pytest.fixture
def here(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `faces`, `pairs.txt` of 20 pairs and the checkpoint `x.ckpt`."""
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "faces", {f"person {i}": 4 for i in range(6)})
    pairs = []
    for n in range(20):
        first, second = f"person {n % 6}/{n % 4}.png", f"person {(n % 6 + n % 2) % 6}/{(n + 1) % 4}.png"
        pairs += [f"{first} {1 - n % 2}", f"{second} {1 - n % 2}"]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs))
    save_checkpoint(compose(*TRAIN), tmp_path / "x.ckpt")
    return tmp_path


@pytest.fixture
def composed(compose: Compose) -> Compose:
    def evaluation(*overrides: str, folder: str = "verified") -> DictConfig:
        return compose(
            "ckpt_path=x.ckpt",
            "trainer.accelerator=cpu",
            "data.num_workers=0",
            *overrides,
            name="evaluate",
            folder=folder,
        )

    return evaluation


def test_the_figures_are_those_of_the_pairs(here: Path, composed: Compose, compose: Compose) -> None:
    """Each image is resized and cropped as the checkpoint says, embedded alone here and compared in a loop."""
    figures = verify(composed(*BOTH))
    config = compose(*TRAIN)
    embedder = build_model(config.model)
    state = torch.load("x.ckpt", weights_only=True)["state_dict"]
    embedder.load_state_dict({key.removeprefix("embedder."): value for key, value in state.items()})
    resize, crop = build(config.dataset.resize), build(config.dataset.eval_transform)

    def embedded(name: str) -> torch.Tensor:
        image = crop(resize(read_image(here / "faces" / name, 3)))
        pixels = torch.tensor(list(image.tobytes()), dtype=torch.uint8).view(1, 12, 12, 3).permute(0, 3, 1, 2)
        return embedder.eval()(pixels)[0].detach()

    lines = [line.rsplit(None, 1) for line in Path("pairs.txt").read_text().splitlines()]
    scores = [
        (float(embedded(first) @ embedded(second)), label == "1")
        for (first, label), (second, _) in zip(lines[::2], lines[1::2], strict=True)
    ]
    wins = [(s > d) + (s == d) / 2 for s, same in scores if same for d, other in scores if not other]
    assert figures["test/auc"] == pytest.approx(sum(wins) / len(wins), abs=1e-6)
    different = sorted(s for s, same in scores if not same)
    accepted = [s for s, same in scores if same and s > different[-2]]  # one of ten is let in at most
    assert figures["test/tar_at_far_0.1"] == pytest.approx(len(accepted) / 10)
    assert (figures["pairs_same"], figures["pairs_different"], figures["folds"]) == (10, 10, 10)
    assert figures["images"] == len({name for name, _ in lines})


def test_what_is_written(here: Path, composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    run(composed(*BOTH, "baselines=true"))
    figures = json.loads((here / "verified" / "metrics.json").read_text())
    low, high = figures["intervals"]["test/verification_accuracy"]
    assert 0 <= low <= figures["test/verification_accuracy"] <= high <= 1
    assert figures["test/verification_accuracy_se"] >= 0
    assert "test/tar_at_far_0.01" not in figures
    assert figures["not_measured"]["test/tar_at_far_0.01"] == "needs 100 negative pairs; the list has 10"
    assert set(figures["baselines"]) == {"raw pixels"}
    assert set(figures["baselines"]["raw pixels"]) == {n[5:] for n in figures if n.startswith("test/")}
    with (here / "verified" / "roc.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["network"] == "test"]
    assert [float(rows[0][key]) for key in ("threshold", "far", "tar")] == [float("inf"), 0, 0]
    assert [float(rows[-1][key]) for key in ("far", "tar")] == [1, 1]
    with Image.open(here / "verified" / "roc.png") as picture:
        assert min(picture.size) > 400
    printed = capsys.readouterr().out
    assert "verification_accuracy" in printed
    assert "tar_at_far_0.001 needs 1,000 negative pairs; the list has 10." in printed
    assert printed.splitlines()[-1] == str(here / "verified")


def test_without_a_checkpoint(here: Path, compose: Compose) -> None:
    """The convnet's weights of seed 0, without its head; the list needs no data set that could be split."""
    config = compose(
        *("dataset=folder", "model=convnet", "model.blocks=2", *BOTH, "dataset.resize=null"),
        *("dataset.eval_transform=null", "trainer.accelerator=cpu", "data.num_workers=0"),
        name="evaluate",
        folder="verified",
    )
    figures = verify(config)
    assert figures["images"] > 10
    assert 0 <= figures["test/auc"] <= 1
    assert figures == verify(config)


def test_a_collapsed_network_is_at_chance_and_told(
    here: Path, composed: Compose, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load("x.ckpt", weights_only=True)
    for value in state["state_dict"].values():
        if value.is_floating_point():
            value.zero_()
    state["state_dict"]["embedder.head.bias"] = torch.ones(64)
    torch.save(state, "x.ckpt")
    figures = verify(composed(*BOTH))
    assert figures["collapsed"]
    assert (figures["test/auc"], figures["test/verification_accuracy"]) == (0.5, 0.5)
    assert "COLLAPSED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (BOTH[:1], "protocol=verification needs dataset.pairs=…"),
        (BOTH[:2], "and dataset.root=…, the folder that holds their images"),
        ((*BOTH, "dataset.recall_at=[1]"), "dataset.recall_at=… has no effect in verification"),
        (("protocol=holdout",), "protocol=holdout must be retrieval or verification"),
        (BOTH[1:], "dataset.pairs=… is read by protocol=verification alone"),
        ((*BOTH, "audit=true"), "audit=… has no effect in verification"),
        (("baselines=maybe",), "baselines=maybe must be"),
        ((*BOTH, "dataset.root=none"), "dataset.root=none is no folder"),
        ((*BOTH, "dataset.pairs=none"), "dataset.pairs=none is no file"),
        ((*BOTH, "+data.workers=3"), "data.workers=… has no effect"),
    ],
)
def test_a_wrong_command_is_refused(
    here: Path, composed: Compose, overrides: tuple[str, ...], said: str
) -> None:
    command = verify if overrides[0] == "protocol=verification" else evaluate
    with pytest.raises(UserError, match=re.escape(said)):
        command(composed(*overrides))
    assert not (here / "verified").exists()


def test_images_are_looked_at_before_any_is_embedded(here: Path, composed: Compose) -> None:
    (here / "faces" / "person 0" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"person 0/0\.png"):
        verify(composed(*BOTH))
    (here / "faces" / "person 0" / "0.png").unlink()
    with pytest.raises(UserError, match=r"pairs\.txt, line 1: there is no faces/person 0/0\.png"):
        verify(composed(*BOTH))


def test_images_of_several_sizes_without_a_crop(here: Path, composed: Compose, compose: Compose) -> None:
    save_checkpoint(
        compose(*TRAIN[:-2], "dataset.resize=null", "dataset.eval_transform=null"), here / "x.ckpt"
    )
    write_image(here / "faces" / "person 0" / "0.png")
    Image.new("RGB", (9, 8)).save(here / "faces" / "person 0" / "0.png")
    with pytest.raises(UserError, match="must be of one size, but there are 8×8 and 9×8"):
        verify(composed(*BOTH))


def test_training_refuses_verification(compose: Compose) -> None:
    with pytest.raises(
        UserError, match="protocol=verification judges a checkpoint: train with protocol=paper or"
    ):
        check_config(compose("protocol=verification"))
