"""Mistyped command lines: one sentence, before torch is imported and before anything is written."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from dml.config.build import build_module
from dml.errors import UserError

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Types a command; the one sentence that refuses it."""
    monkeypatch.chdir(tmp_path)

    def sentence(command: str, *arguments: str) -> str:
        for run in ("dml.runs.training.run", "dml.runs.evaluation.run", "dml.analysis.weight_report.run"):
            monkeypatch.setattr(run, lambda config: pytest.fail("it ran"))
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr("sys.argv", [f"dml.{command}", *arguments])
        with pytest.raises(SystemExit) as caught:
            import_module(f"dml.{command}").main()
        said = str(caught.value.code)
        assert said.startswith("Error: ")
        assert "\n" not in said
        assert "Traceback" not in said + "".join(capsys.readouterr())
        assert sorted(tmp_path.rglob("*")) == before
        return said.removeprefix("Error: ")

    return sentence


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("loss.lam=1", "loss.lambda"),
        ("loss.Alpha=1", "loss.alpha"),
        ("loss.eps=0.1", "loss.epsilon"),
        ("lr=0.1", "optimizer.lr"),
        ("alpha=2", "loss.alpha"),
        ("max_steps=2", "dataset.max_steps"),
        ("trainer.maxsteps=2", "trainer.max_steps"),
        ("datset=cub", "dataset"),
        ("optimiser.lr=1", "optimizer.lr"),
        ("dataset.rot=x", "dataset.root"),
        ("sampler.images_per_clas=2", "sampler.images_per_class"),
        ("modle.embedding_dim=2", "model.embedding_dim"),
        ("callbacks.recal.nmi=false", "callbacks.recall.nmi"),
        ("loss=multi_similarity", "loss=ms"),
        ("loss=MultiSimilarityLoss", "loss=ms"),
        ("loss=triplett", "loss=triplet"),
        ("dataset=CUB", "dataset=cub"),
        ("dataset=in_shop", "dataset=inshop"),
        ("optimizer=AdamW", "optimizer=adamw"),
        ("model=bn_inception", "model=bninception"),
        ("logger=wanb", "logger=wandb"),
    ],
)
def test_a_mistyped_name_is_met_by_what_was_meant(refused: Refused, typed: str, meant: str) -> None:
    said = refused("train", "seed=1", typed)
    assert said.startswith("There is no ")
    assert typed.split("=")[0] in said
    assert f"did you mean {meant}?" in said
    assert "+" not in said


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["xyzzy=1"], "There is no key xyzzy."),
        (["foo"], "foo is no key=value"),
        (["loss.alpha=a=b"], "loss.alpha=a=b cannot be read: quote a value"),
        (["ckpt_path=a/epoch=3.ckpt"], "ckpt_path=a/epoch=3.ckpt cannot be read: quote a value"),
        (["loss.alpha=[1"], "loss.alpha=[1 cannot be read"),
        (["dataset=cars", "dataset.root=…"], "dataset.root=… cannot be read: put your own"),
        (["loss.alpha=1,2"], "--multirun"),
        (["-m", "loss.lam=1,2"], "did you mean loss.lambda?"),
        (["-m", "loss=multi_similarity,ms"], "did you mean loss=ms?"),
        (["-m", "loss=ms,multi_similarity", "seed=1,2"], "did you mean loss=ms?"),
        (["-m", "loss.alpha=1,2", "model=convnet,convent"], "did you mean model=convnet?"),
        (["resume=true"], "resume=true must be"),
        (["+loss.lam=1"], "There is no key loss.lam: did you mean loss.lambda?"),
        (["trainer=none"], "There is no trainer=none. There are"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(refused: Refused, typed: list[str], said: str) -> None:
    assert said in refused("train", *typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["trainer.max_steps=0", "loss.beta=1,2"], "trainer.max_steps=0 must be greater than 0"),
        (["loss.alpha=nan,1", "optimizer.lr=-1"], "optimizer.lr=-1 must be"),
        (["loss.alpha=1,nan", "optimizer.lr=-1"], "optimizer.lr=-1 must be"),
        (["loss.alpha=nan,inf"], "loss.alpha=nan must be finite"),
        (["loss.alpha=interval(0,1)"], "does not support sweep type"),
    ],
)
def test_a_sweep_of_which_no_trial_can_run_is_refused(refused: Refused, typed: list[str], said: str) -> None:
    assert said in refused("train", "-m", *typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["run/best.ckpt"], "did you mean ckpt_path=run/best.ckpt?"),
        ([], "ckpt_path is missing"),
        (["ckpt_path=nowhere.ckpt"], "ckpt_path=nowhere.ckpt: there is no such file"),
        (["ckpt_path=."], "ckpt_path=checkpoints/best.ckpt: there is no such file"),
        (["ckpt=x"], "did you mean ckpt_path?"),
        (["root=x"], "did you mean dataset.root?"),
        (["+seed=1", "ckpt_path=x"], "seed=… has no effect"),
    ],
)
def test_an_evaluation_says_what_was_meant(refused: Refused, typed: list[str], said: str) -> None:
    assert said in refused("evaluate", *typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["loss=multi_similarity"], "did you mean loss=ms?"),
        (["lam=1"], "loss.lambda"),
        (["loss.alpha=-1"], "alpha"),
        (["losses=[ms,tripplet]"], "there is no loss tripplet"),
        (["row.positives=none"], "row.positives=none must be"),
    ],
)
def test_so_does_the_plot_of_weights(refused: Refused, typed: list[str], said: str) -> None:
    assert said in refused("weights", *typed)


VALUES = {
    "null": [
        *(f"{group}=null" for group in ("loss", "dataset", "callbacks", "lr_factors")),
        *(f"{key}=null" for key in ("loss.lambda", "run_dir", "protocol", "dataset.recall_at", "baselines")),
        *(f"callbacks.{key}=null" for key in ("recall", "best_checkpoint", "recall.ks")),
    ],
    "not finite": [
        f"{key}={value}"
        for key, values in {"loss.alpha": ("nan", "-inf"), "optimizer.lr": ("inf", "1e400", ".nan")}.items()
        for value in values
    ],
    "a count": [
        f"{key}={value}"
        for key in (
            "sampler.classes_per_batch",
            "sampler.images_per_class",
            "data.eval_batch_size",
            "trainer.max_steps",
            "trainer.val_check_interval",
            "trainer.log_every_n_steps",
            "model.embedding_dim",
            "model.blocks",
            "callbacks.retrieval_grid.queries",
            "callbacks.retrieval_grid.neighbours",
            "callbacks.last_checkpoint.every_n_train_steps",
            "callbacks.pair_statistics.every_n_steps",
            "callbacks.progress.refresh_rate",
        )
        for value in ((0, -1, 1.5, "many", "[1]") if key == "trainer.max_steps" else (-1,))
    ],
    "a boolean": [
        f"{key}={value}"
        for key in ("baselines", "data.pin_memory", "dataset.download", "callbacks.recall.nmi", "data.cache")
        for value in (("maybe", 7, "[]", "null") if key == "data.pin_memory" else ("perhaps",))
    ],
    "an interpolation": [
        "run_dir=${oc.env:UNSET}",
        "dataset.root=${nowhere}",
        "seed=${oc.env:UNSET}",
        "model.blocks=${x",
    ],
    "a callback": [
        "callbacks.best_checkpoint.monitor=val/recal_at_1",
        "callbacks.best_checkpoint.mode=most",
        "+callbacks.mine._target_=nowhere.Callback",
        "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/recal_at_1}",
    ],
    "a scheduler": ["scheduler=cosine scheduler.T_max=0", "scheduler.milestones=[nan]"],
    "a proxy": ["loss=proxy_anchor loss.embedding_dim=3"],
    "the trainer": [
        "trainer.accelerator=abacus",
        "trainer.precision=17",
        "trainer.devices=0",
        "trainer.strategy=dpp",
    ],
}


@pytest.mark.parametrize(
    "typed",
    [pytest.param(typed, id=f"{kind}: {typed}") for kind, values in VALUES.items() for typed in values],
)
def test_a_value_that_cannot_be_is_refused_before_anything_is_written(refused: Refused, typed: str) -> None:
    said = refused("train", *typed.split(" "))
    key = typed.split(" ")[-1].split("=")[0].lstrip("+")
    assert any(part in said for part in (key, key.rpartition(".")[2])), said


def test_proxies_for_too_few_classes_are_refused_when_the_classes_are_known(compose) -> None:
    config = compose("loss=proxy_anchor", "loss.num_classes=3")
    with pytest.raises(UserError, match=r"loss\.num_classes=3 is fewer than the 4 classes trained on"):
        build_module(config, num_classes=4)


def test_torch_is_imported_only_for_a_command_line_that_composes(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['dml.train', 'loss.lam=1']\n"
        "from dml.train import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())
