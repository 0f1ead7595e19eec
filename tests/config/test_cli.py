"""What all commands share."""

import os
import subprocess
import sys

from dml.config.cli import CONF


def test_the_processes_of_torchrun_agree_on_the_runs_folder(tmp_path):
    """Each asks in its own second; the folder is that of the first."""
    (tmp_path / "ask.py").write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from omegaconf import OmegaConf\n"
        "import dml.config.cli\n"
        "rank = os.environ['RANK']\n"
        "time.sleep(1.1 * int(rank))\n"
        "folder = OmegaConf.create({'dir': '${new_folder:%Y-%m-%d/%H-%M-%S}'}).dir\n"
        "Path(__file__).with_name(rank).write_text(folder)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": f"{CONF}/.."}
    done = subprocess.run(
        [*command, str(tmp_path / "ask.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() != ""
