"""What `python -m dml.weights` prints, draws and writes."""

import csv
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf

from dml.analysis.dependence import share_changed, weight_dependence
from dml.analysis.weight_curves import Row, weight_curves
from dml.analysis.weight_report import build_losses, weights
from dml.config.cli import CONF
from dml.errors import UserError
from dml.losses import (
    BinomialDevianceLoss,
    ContrastiveLoss,
    GeneralWeightingLoss,
    LiftedStructureLoss,
    MultiSimilarityLoss,
    PairLoss,
    Pairs,
    TripletLoss,
)
from dml.losses.mining import AllMining, RelativeMining
from dml.losses.weighting import ConstantWeighting


def depends_on(loss: PairLoss, kind: str = "negative") -> str:
    """The letters of the similarities that change a weight."""
    return "".join(
        letter for letter, share in zip("SNP", weight_dependence(loss, kind), strict=True) if share > 0
    )


# Wang et al., CVPR 2019, Table 1, on a negative pair; the triplet loss there counts each active triplet as 1.
PAPER = [
    (ContrastiveLoss(), "S"),
    (TripletLoss(average="all"), "P"),
    (GeneralWeightingLoss(RelativeMining(0.1), ConstantWeighting()), "P"),
    (LiftedStructureLoss(), "N"),
    (BinomialDevianceLoss(), "S"),
    (MultiSimilarityLoss(), "SNP"),
]


@pytest.mark.parametrize(("loss", "letters"), PAPER)
def test_the_measured_table_is_the_papers(loss, letters):
    assert depends_on(loss) == letters


def test_a_positive_mirrors_a_negative():
    assert depends_on(LiftedStructureLoss(), "positive") == "P"
    assert depends_on(BinomialDevianceLoss(), "positive") == "S"
    assert depends_on(MultiSimilarityLoss(), "positive") == "SNP"
    assert depends_on(TripletLoss(average="all"), "positive") == "N"


def test_multi_similarity_depends_on_the_other_kind_through_mining_only():
    assert depends_on(MultiSimilarityLoss(epsilon=None)) == "SN"


def test_the_mean_over_active_triplets_makes_the_triplet_loss_depend_on_negatives():
    assert depends_on(TripletLoss()) == "NP"


def test_constant_weights_depend_on_nothing():
    assert depends_on(GeneralWeightingLoss(AllMining(), ConstantWeighting())) == ""


class Threshold(PairLoss):
    """Weighs a negative by 1 where it is above 0, and nothing else."""

    def per_anchor(self, similarity: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        return torch.where(pairs.negative, similarity.relu(), 0.0).sum(dim=1)


def test_the_share_is_that_of_the_anchors_whose_weight_changed():
    # Of three anchors, with one negative each, shifts of up to ±0.5 bring the second alone across the threshold.
    similarity = torch.tensor([[-0.6], [-0.2], [0.6]])
    pairs = Pairs(torch.zeros(3, 1, dtype=torch.bool), torch.ones(3, 1, dtype=torch.bool))
    share = share_changed(Threshold(), similarity, pairs, torch.tensor([True]), 0)
    assert share == pytest.approx(1 / 3)


def test_a_curve_is_the_weight_at_each_similarity():
    curve = weight_curves(ContrastiveLoss(0.5), Row(), points=5)
    torch.testing.assert_close(curve.similarity, torch.tensor([-1, -0.5, 0, 0.5, 1]).double())
    torch.testing.assert_close(curve.positive, torch.ones(5).double())
    torch.testing.assert_close(curve.negative, torch.tensor([0, 0, 0, 0, 1]).double())


def test_the_rest_of_the_row_is_fixed():
    # Lifted structure: e^S over the sum of e^S of this negative and of the two that stay, at 0 and 0.4.
    curve = weight_curves(LiftedStructureLoss(), Row(2, 3, (0.5, 0.5), (0.0, 0.4)), points=3)
    S = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    stay = 1 + torch.tensor(0.4, dtype=torch.float64).exp()
    torch.testing.assert_close(curve.negative, S.exp() / (S.exp() + stay))


@pytest.mark.parametrize(
    "change", [{"positives": 0}, {"negative_range": (0.5, 0.1)}, {"positive_range": (0.0, 2.0)}]
)
def test_a_row_that_cannot_be_is_refused(change):
    with pytest.raises(UserError, match="row"):
        Row(**change)


def composed(compose, *overrides):
    return compose(*overrides, "name=ms", name="weights")


def test_everything_is_written_to_the_runs_folder(compose, tmp_path, capsys):
    dependences = weights(
        composed(compose, "losses=[contrastive,ms,general,margin]", "mining=all", "weighting=power")
    )
    assert list(dependences) == ["contrastive", "ms", "general", "margin"]
    assert "contrastive" in capsys.readouterr().out
    folder = tmp_path / "run"
    assert (folder / "weights.png").stat().st_size > 10_000
    with (folder / "weights.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 2 * 401
    top = [row for row in rows if row["loss"] == "general" and row["similarity"] == "1"]
    assert [(row["kind"], float(row["weight"])) for row in top] == [("positive", 0.0), ("negative", 1.0)]
    with (folder / "similarities.csv").open() as stream:
        table = {(row["loss"], row["kind"]): row for row in csv.DictReader(stream)}
    negative = table["contrastive", "negative"]
    assert float(negative["S"]) > 0
    assert (negative["N"], negative["P"]) == ("0.0", "0.0")


def test_an_override_reaches_the_loss(compose):
    dependences = weights(composed(compose, "loss.epsilon=null"))
    assert dependences["ms"]["negative"].positives == 0


def test_an_unknown_loss_is_named_with_those_there_are(compose):
    with pytest.raises(UserError, match="there is no loss lifted; there are binomial_deviance"):
        weights(composed(compose, "losses=[lifted]"))


def test_one_name_is_a_list_of_one():
    config = OmegaConf.create({"losses": "contrastive", "num_classes": 2, "loss": None})
    assert list(build_losses(config)) == ["contrastive"]


@pytest.mark.parametrize("key", ["row.positives", "loss.lambda"])
def test_a_word_where_a_number_belongs_is_one_sentence(compose, key):
    with pytest.raises(UserError, match=rf"^{key}=few must be a valid (integer|number)"):
        weights(composed(compose, f"{key}=few"))


@pytest.mark.parametrize("losses", ["losses=null", "losses=[contrastive,ms]"])
def test_a_mining_that_no_loss_reads_is_refused(compose, losses):
    with pytest.raises(UserError, match="mining=… changes nothing"):
        weights(composed(compose, losses, "mining=all"))


def test_the_module_does_not_bring_the_trainer_along():
    code = "import sys, dml.weights; print('pytorch_lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=f"{CONF}/..", capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_the_runs_folder_is_printed_last(tmp_path, typed):
    done = typed("dml.weights", "loss=ms_paper", f"hydra.run.dir={tmp_path / 'out'}")
    assert done.out.splitlines()[-1] == str(tmp_path / "out"), done.err
    assert "ms_paper" in done.out
