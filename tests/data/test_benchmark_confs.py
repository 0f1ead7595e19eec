from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dml.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "dataset"
RECALL_AT = {
    "cub": [1, 2, 4, 8, 16, 32],
    "cars": [1, 2, 4, 8],
    "sop": [1, 10, 100, 1000],
    "inshop": [1, 10, 20, 30, 40, 50],
    "folder": [1, 2, 4, 8],
    "manifest": [1, 2, 4, 8],
}


@pytest.mark.parametrize("name", RECALL_AT)
def test_a_dataset_is_built_from_its_yaml(name: str, tmp_path: Path) -> None:
    config = OmegaConf.create({"dataset": OmegaConf.load(CONF / f"{name}.yaml")})
    config.dataset.root = str(tmp_path / "nowhere")
    dataset = instantiate(config.dataset)
    assert (dataset.name, list(dataset.recall_at)) == (name, RECALL_AT[name])
    image = torch.zeros(3, 500, 300, dtype=torch.uint8)
    assert dataset.train_transform(image).shape == dataset.eval_transform(image).shape == (3, 227, 227)
    with pytest.raises(UserError, match="nowhere"):
        dataset.split()


def test_evaluation_sees_the_centre_of_the_image_at_shorter_side_256() -> None:
    """An image of 256×512 keeps its scale; its centre of 227×227 begins at 14 from the left, 142 down."""
    transform = instantiate(OmegaConf.load(CONF / "cub.yaml").eval_transform)
    image = torch.zeros(3, 512, 256, dtype=torch.uint8)
    image[:, 256, 128] = 255
    assert transform(image)[:, 256 - 142, 128 - 14].tolist() == [255] * 3
