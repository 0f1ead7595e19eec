"""The metrics of a run are those that its configuration lists."""

import pytest
import torch

from dml.errors import UserError
from dml.retrieval import Ranking
from dml.runs.loggers import read_rows
from dml.runs.training import train


def place_of_the_first(ranking: Ranking) -> torch.Tensor:
    return ranking.others_ahead + 1.0


def test_a_metric_is_a_function_and_a_line(compose, tmp_path):
    own = f"+callbacks.recall.metrics.place={{_target_:{__name__}.place_of_the_first,_partial_:true}}"
    chosen = (own, "callbacks.recall.metrics.map_at_r=null", "callbacks.recall.nmi=false", "baselines=true")
    quick = ("debug=fast", "trainer=cpu", "model.embedding_dim=8", "callbacks.retrieval_grid=null")
    config = compose(*quick, *chosen)
    of_test = {name for name, metric in config.callbacks.recall.metrics.items() if metric}
    figures = train(config)
    recalls = {f"recall_at_{k}" for k in (1, 2, 4, 8)} | {"queries_without_positives"}
    names = recalls | of_test
    assert "place" in names
    assert "map_at_r" not in names
    assert {name for name in figures if name.startswith("test/")} == {f"test/{name}" for name in names}
    assert all(column.keys() == names for column in figures["baselines"].values())
    assert figures["test/place"] > 1
    logged = read_rows(tmp_path / "run" / "metrics.csv")[0].keys()
    assert {name for name in logged if name.startswith("val/")} == {f"val/{name}" for name in recalls}


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            "+callbacks.recall.metrics.unheard_of={_target_:dml.retrieval.metrics.unheard_of}",
            "metrics.unheard_of cannot be found",
        ),
        ("+callbacks.recall.metrics.map_at_r.k=3", "There is no key callbacks.recall.metrics.map_at_r.k"),
        ("+callbacks.recall.metrics.unheard_of=3", "There is no key callbacks.recall.metrics.unheard_of"),
    ],
)
def test_a_metric_that_does_not_exist_is_one_sentence(compose, metric, said):
    with pytest.raises(UserError, match=said):
        train(compose(metric))
