import threading
import time
from pathlib import Path

import pytest

from dml.data import acquire
from dml.data.acquire import Source
from dml.errors import UserError


def test_of_several_processes_one_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def slowly(url: str, file: Path, md5: str | None) -> Path:
        fetched.append(url)
        time.sleep(0.1)
        file.touch()
        return file

    monkeypatch.setattr(acquire, "fetch", slowly)
    source = Source("list.txt", makes="list.txt", md5=None, urls=("http://host.invalid/list.txt",))
    together = [
        threading.Thread(target=acquire.acquire, args=(tmp_path, [source], "elsewhere.")) for _ in range(4)
    ]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert fetched == ["http://host.invalid/list.txt"]


@pytest.mark.parametrize(("part", "tried"), [(False, ["a", "b"]), (True, ["a"])])
def test_another_address_unless_something_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: bool, tried: list[str]
) -> None:
    asked = []

    def fail(url: str, file: Path, md5: str | None) -> Path:
        asked.append(url)
        if part:
            file.with_name(f"{file.name}.part").touch()
        raise UserError(f"Cannot fetch {url}.")

    monkeypatch.setattr(acquire, "fetch", fail)
    source = Source("x.zip", makes="x", md5=None, urls=("a", "b"))
    with pytest.raises(UserError, match=rf"Cannot fetch {tried[-1]}; ask a friend\."):
        acquire.acquire(tmp_path, [source], "ask a friend.")
    assert asked == tried
