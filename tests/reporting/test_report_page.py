"""The page of a run: what it shows, that it stands alone, and how it looks in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_benchmarks import write_image, write_tree
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig

from dml.config.cli import CONF
from dml.errors import Note
from dml.report import main
from dml.runs.evaluation import evaluate
from dml.runs.training import train

EVIL = "z<img src=x onerror=alert(1)>"  # a class may be called so; it sorts among the test classes
UNREADABLE = os.fsdecode(b"z\xe9")
CLASSES = ["a", "b", "c", EVIL, "z<!--", UNREADABLE]
RUN = (
    "dataset=folder",
    "debug=fast",
    "report=true",
    "trainer=cpu",
    "model=convnet",
    "model.blocks=2",
    "sampler=pk_16x5",
    "sampler.classes_per_batch=2",
    "sampler.images_per_class=2",
    "data.num_workers=0",
    "dataset.resize=null",
    "dataset.train_transform=null",
    "dataset.eval_transform=null",
    "dataset.test_share=0.6",
    "callbacks.retrieval_grid=null",
    "baselines=true",
    "+published={source: '<Who> et al.', recall_at_1: 65.7}",
)
Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training and its evaluation; one image lies in two test classes. The images are gone afterwards."""
    top = tmp_path_factory.mktemp("report")
    write_tree(top / "images", dict.fromkeys(CLASSES, 6))
    for label in sorted(CLASSES)[-2:]:
        write_image(top / "images" / label / "copy.png", seed=7)
    with initialize_config_dir(CONF, version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # of the copy: xdist cannot pass on a name that is no text
        train(hydra_compose("train", [f"run_dir={top / 'run'}", *RUN, f"dataset.root={top / 'images'}"]))
        checkpoint = top / "run" / "checkpoints" / "best.ckpt"
        overrides = [f"run_dir={top / 'evaluation'}", f"ckpt_path={checkpoint}", "trainer.accelerator=cpu"]
        evaluate(hydra_compose("evaluate", overrides))
    shutil.rmtree(top / "images")
    return top / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run in a folder of its own."""
    return Path(shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints")))


class Page(HTMLParser):
    """What a page refers to, the headings of its sections, and its visible text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sections: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        self.links += [
            value for key, value in attributes if value and key in ("src", "href", "xlink:href", "srcset")
        ]
        if tag == "h2":
            self.sections.append(str(given["id"]))
        assert not any(key.startswith("on") for key in given), attributes

    def handle_data(self, data: str) -> None:
        if self.lasttag not in ("style", "script"):
            self.texts.append(data)


def test_the_sections_are_in_the_order_in_which_a_reader_asks(run: Path) -> None:
    page = Page(run / "report.html")
    assert page.sections == [
        *("figures", "training", "queries", "confused", "duplicates", "similarity", "weights", "map", "run"),
    ]


def test_figures_stand_beside_intervals_floors_and_published_values(run: Path) -> None:
    text, metrics = Page(run / "report.html").text, json.loads((run / "metrics.json").read_text())

    def shown(name: str, value: float) -> list[str]:
        low, high = metrics["intervals"][f"{name}/recall_at_1"]
        return [f"{value:.4f}", f"{low:.4f} – {high:.4f}"]

    row = ["Recall@1", *shown("test", metrics["test/recall_at_1"])]
    for name in ("raw pixels", "untrained"):
        row += shown(name, metrics["baselines"][name]["recall_at_1"])
    assert " ".join([*row, "0.6570"]) in text
    assert "published: <Who> et al." in text
    assert metrics["fingerprint"] in text


def test_the_page_stands_alone(run: Path) -> None:
    file = run / "report.html"
    assert {link.partition(":")[0] if ":" in link else link[0] for link in Page(file).links} <= {"data", "#"}
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", text)
    assert file.stat().st_size < 2e6


def test_names_are_text_whatever_they_hold(run: Path) -> None:
    file = run / "report.html"
    page = Page(file)
    assert EVIL in page.text
    assert "z<!--" in page.text
    assert "x" not in page.links
    assert "onerror=alert(1)>" not in file.read_text(encoding="utf-8")
    assert "<!--" not in file.read_text(encoding="utf-8")


def test_one_picture_under_two_classes_is_shown(run: Path) -> None:
    text = Page(run / "report.html").text
    assert "1 pair of images of two classes" in text
    assert "the same picture" in text


def test_the_command_makes_it_again_without_the_images(copy: Path, capsys) -> None:
    first = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    assert main([str(copy)]) == 0
    assert capsys.readouterr().out == f"{copy / 'report.html'}\n"
    assert (copy / "report.html").read_bytes() == first


def test_a_collapsed_run_says_so_and_names_no_duplicates(copy: Path) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps(metrics | {"collapsed": True}))
    assert main([str(copy)]) == 0
    text = Page(copy / "report.html").text
    assert "The embeddings have collapsed. The test embeddings hardly differ" in text
    assert "the same picture" not in text


@pytest.mark.parametrize("name", ["queries.csv", "report.json", "metrics.json"])
def test_a_missing_file_is_one_sentence(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(SystemExit) as stopped:
        main([str(copy)])
    said = str(stopped.value.code)
    assert said.startswith(f"Error: {copy} holds no {name}: python -m dml.evaluate ckpt_path=")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["queries.csv", "report.json", "metrics.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "name,class\na,b\n"])
def test_a_damaged_file_is_one_sentence(copy: Path, name: str, text: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main([str(copy)])
    said = str(stopped.value.code)
    assert said.startswith(f"Error: {copy / name} ")
    assert "\n" not in said


def test_what_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Error: .*nope is not a folder: give the folder of a run"):
        main([str(tmp_path / "nope")])


def test_the_console_command_has_it(tmp_path: Path) -> None:
    """With a mistake that is told before matplotlib and torch are imported."""
    done = subprocess.run(
        [sys.executable, "-m", "dml", "report", str(tmp_path), "--rows", "mining"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("python -m dml.report: error: --rows and --columns go together\n")


def test_an_evaluation_has_a_report_without_training(run: Path) -> None:
    page, of_training = Page(run.parent / "evaluation" / "report.html"), Page(run / "report.html")
    assert page.sections == [name for name in of_training.sections if name not in ("training", "weights")]
    assert "the same picture" in page.text


def test_a_run_can_do_without(compose: Compose, tmp_path: Path) -> None:
    write_tree(tmp_path / "images", {f"class {i}": 4 for i in range(6)})
    train(compose(*RUN, f"dataset.root={tmp_path / 'images'}", "report=false"))
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not list((tmp_path / "run").glob("report*"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_report_that_cannot_be_written_is_a_note_and_the_figures_are_safe(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*arguments: object) -> None:
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/recall_at_1"] > 0
        raise error

    write_tree(tmp_path / "images", {f"class {i}": 4 for i in range(6)})
    monkeypatch.setattr("dml.reporting.data.thumbnail", failing)
    with pytest.warns(Note, match=r"report\.html could not be written \(.+\); all figures are written"):
        train(compose(*RUN, f"dataset.root={tmp_path / 'images'}", "baselines=false"))
    assert not list((tmp_path / "run").glob("report*"))


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Looks at the page in a frame of a phone's and of a desktop's width, and points at the map.
LOOK = """<body><script>
const looks = [];
for (const width of [390, 1280]) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800; frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement, tip = page.querySelector(".tip");
    const circle = page.querySelector("#plot circle");
    const box = circle.getBoundingClientRect();
    const at = {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
    circle.dispatchEvent(new frame.contentWindow.PointerEvent("pointermove", at));
    const shown = !tip.hidden && tip.querySelector("img").src.startsWith("data:image/webp;base64,");
    circle.dispatchEvent(new frame.contentWindow.MouseEvent("click", at));
    const same = page.querySelectorAll("#plot circle.same").length;
    const broken = [...page.images].filter((image) => image.src && image.complete && !image.naturalWidth).length;
    looks.push([width, root.scrollWidth, shown, same > 1, broken]);
    if (looks.length === 2) document.body.textContent = "LOOKS" + JSON.stringify(looks.sort()) + "END";
  };
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome to open the report in")
def test_a_browser_shows_it_on_a_phone_and_on_a_desktop(copy: Path, tmp_path: Path) -> None:
    (copy / "look.html").write_text(LOOK)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    options += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=9000",
    ]
    done = subprocess.run(
        [str(BROWSER), *options, "--dump-dom", (copy / "look.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    looks = re.search("LOOKS(.*)END", done.stdout)
    assert looks, done.stderr
    for width, content_width, image_shown, class_marked, broken_images in json.loads(looks[1]):
        assert content_width <= width
        assert image_shown
        assert class_marked
        assert not broken_images
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
