"""The console command `dml`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = {file.stem for file in (REPOSITORY / "dml").glob("[!_]*.py") if '"__main__"' in file.read_text()}


def dml(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dml", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_lists_its_commands(tmp_path: Path) -> None:
    for arguments in ([], ["--help"], ["trian"]):
        done = dml(*arguments, folder=tmp_path)
        assert done.returncode == (arguments == ["trian"])
        printed = done.stderr if done.returncode else done.stdout
        listed = [line.split()[1] for line in printed.splitlines() if line.startswith("  dml ")]
        assert listed == sorted(listed)
        assert set(listed) == COMMANDS
    assert "there is no command trian" in done.stderr


def test_a_command_is_the_module_of_its_name(tmp_path: Path) -> None:
    done = dml("train", "loss.lam=1", folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: There is no key loss.lam: did you mean loss.lambda?\n",
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dml ", COMMANDS),
        ("dml tr", {"train"}),
        ("dml train los", {"loss=", "loss."}),
        ("dml train loss=proxy", {"loss=proxy_anchor", "loss=proxy_nca"}),
        ("dml train loss=ms loss.ep", {"loss.epsilon="}),
        ("dml train loss=contrastive loss.la", {"loss.lambda="}),
        ("dml evaluate ckpt", {"ckpt_path="}),
    ],
)
def test_a_shell_completes_it(tmp_path: Path, line: str, found: set[str]) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "dml"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m dml "$@"\n')
    script.chmod(0o755)
    words = line.split(" ")
    typed = " ".join(f"'{word}'" for word in words)
    shell = (
        'eval "$(dml completion)"\n'
        f'COMP_LINE="{line}"; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}\n'
        '_dml; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert set(done.stdout.split()) == found, done.stderr
