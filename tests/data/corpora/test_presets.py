"""Presets of well-known datasets: files in the layout of the real repositories, streamed, downloaded or local."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hub_server import HubServer

from gptzoo.cli import main
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.corpora.presets.tinyshakespeare import TinyShakespeareCorpus
from gptzoo.data.prepare import prepare
from gptzoo.errors import DataError
from gptzoo.reference import Reference
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
constants = pytest.importorskip("huggingface_hub.constants")

REPOSITORIES = {
    "tinystories": "roneneldan/TinyStories",
    "openwebtext": "Skylion007/openwebtext",
    "fineweb_edu": "HuggingFaceFW/fineweb-edu",
    "wikitext": "Salesforce/wikitext",
}
# As in wikitext-2: rows are lines, "" is a blank line, and an article begins with a title between blank lines.
WIKI_ROWS = [
    [
        "",
        " = First = \n",
        "",
        " One line . \n",
        "",
        " = = Section = = \n",
        "",
        " a = b = \n",
        "",
        " = x = \n",
        " more \n",
    ],
    ["", " = Second of two = \n", "", " Text with 1 @.@ 5 % . \n", "", ""],
]


def parquet(texts: list[str], **columns: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts, **columns}), sink, row_group_size=50)
    return sink.getvalue().to_pybytes()


def texts(prefix: str, n: int) -> list[str]:
    return [f"{prefix} document {number}: é\n" for number in range(n)]


def layout() -> dict[str, dict[str, bytes]]:
    """Return the files of each repository by path, in its real layout, with a few rows."""
    ids = {"id": [f"<urn:uuid:{n}>" for n in range(200)], "int_score": [3] * 200}
    return {
        "tinystories": {
            "README.md": b"---\nlicense: cdla-sharing-1.0\n---\n",
            "data/train-00000-of-00002-2d5a1467fff1081b.parquet": parquet(texts("a", 3)),
            "data/train-00001-of-00002-5852b56a2bd28fd9.parquet": parquet(texts("b", 2)),
            "data/validation-00000-of-00001-869c898b519ad725.parquet": parquet(texts("held out", 2)),
            "TinyStories-train.txt": b"not read",
            "TinyStoriesV2-GPT4-train.txt": b"\nOne.\n\nTwo.\n<|endoftext|>\nThree\xc3\xa9.\n<|endoftext|>\n",
            "TinyStoriesV2-GPT4-valid.txt": b"Held out.\n<|endoftext|>\nLast, without an end.",
        },
        "openwebtext": {
            f"plain_text/train-{n:05d}-of-00002.parquet": parquet(texts(f"page of file {n},", 200)) for n in range(2)
        },
        "fineweb_edu": {
            "sample/10BT/000_00000.parquet": parquet(texts("first", 200), **ids),
            "sample/10BT/001_00000.parquet": parquet(texts("second", 200), **ids),
            "sample/100BT/000_00000.parquet": parquet(texts("larger", 200), **ids),
            "data/CC-MAIN-2024-10/train-00000-of-00001.parquet": parquet(texts("crawl", 200), **ids),
            "data/CC-MAIN-2013-20/train-00000-of-00001.parquet": parquet(texts("old crawl", 200), **ids),
        },
        "wikitext": {
            "wikitext-2-raw-v1/train-00000-of-00001.parquet": parquet(WIKI_ROWS[0] + WIKI_ROWS[1]),
            "wikitext-2-raw-v1/validation-00000-of-00001.parquet": parquet(["", " = Held out = \n", "", " v \n"]),
            "wikitext-2-raw-v1/test-00000-of-00001.parquet": parquet(["", " = Tested = \n", "", " t \n"]),
            "wikitext-103-raw-v1/train-00000-of-00002.parquet": parquet((WIKI_ROWS[0] + WIKI_ROWS[1])[:12]),
            "wikitext-103-raw-v1/train-00001-of-00002.parquet": parquet((WIKI_ROWS[0] + WIKI_ROWS[1])[12:]),
            "wikitext-103-raw-v1/validation-00000-of-00001.parquet": parquet(["", " = Held out = \n", "", " v \n"]),
            "wikitext-103-raw-v1/test-00000-of-00001.parquet": parquet(["", " = Tested = \n", "", " t \n"]),
        },
    }


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def build_corpus(name: str, **options: Any) -> Corpus:
    return Reference("corpus").validate({"type": name, **options}).build()


def both(corpus: Corpus) -> tuple[list[str], list[str]]:
    return list(corpus.documents("train")), list(corpus.documents("val"))


@pytest.fixture(params=["local", "download", "stream"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Build a preset that reads a local copy, downloads or streams."""
    if request.param == "local":
        return lambda name, **options: build_corpus(
            name, path=str(write(tmp_path / "copies" / name, layout()[name])), **options
        )
    hub: HubServer = request.getfixturevalue("hub")

    def on_hub(name: str, **options: Any) -> Corpus:
        commit = hub.add(REPOSITORIES[name], layout()[name], "datasets")
        return build_corpus(name, revision=commit, streaming=request.param == "stream", **options)

    return on_hub


# ---------------------------------------------------------------------- documents and splits


def test_tinystories_has_the_validation_split_of_the_dataset(build: Any) -> None:
    assert both(build("tinystories")) == (texts("a", 3) + texts("b", 2), texts("held out", 2))


def test_tinystories_v2_splits_the_text_files_at_the_end_of_each_story(build: Any) -> None:
    expected = ["One.\n\nTwo.", "Threeé."], ["Held out.", "Last, without an end."]
    assert both(build("tinystories", subset="v2")) == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("openwebtext", {}, texts("page of file 0,", 200) + texts("page of file 1,", 200)),
        ("openwebtext", {"n_files": 1}, texts("page of file 0,", 200)),
        ("fineweb_edu", {}, texts("first", 200) + texts("second", 200)),
        ("fineweb_edu", {"n_files": 1}, texts("first", 200)),
        ("fineweb_edu", {"subset": "sample-100BT"}, texts("larger", 200)),
        ("fineweb_edu", {"subset": "CC-MAIN-2024-10"}, texts("crawl", 200)),
        ("fineweb_edu", {"subset": "default"}, texts("old crawl", 200) + texts("crawl", 200)),
    ],
)
def test_a_hash_of_its_content_holds_a_document_out(
    name: str, options: dict[str, Any], expected: list[str], build: Any
) -> None:
    train, val = both(build(name, val_fraction=0.1, **options))

    def is_held_out(text: str) -> bool:
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < 0.1 * 2**64

    assert val == [text for text in expected if is_held_out(text)] != []
    assert train == [text for text in expected if not is_held_out(text)]


def test_wikitext_joins_lines_to_articles(build: Any) -> None:
    train, val = both(build("wikitext", subset="wikitext-2-raw-v1"))
    assert train == ["".join(row or " \n" for row in rows) for rows in WIKI_ROWS]
    assert val == [" \n = Held out = \n \n v \n"]


def test_an_article_of_wikitext_goes_on_in_the_next_file(build: Any) -> None:
    train, _ = both(build("wikitext"))
    assert train == ["".join(row or " \n" for row in rows) for rows in WIKI_ROWS]


def test_the_held_out_text_of_wikitext_can_be_its_test_split(build: Any) -> None:
    assert both(build("wikitext", val_split="test"))[1] == [" \n = Tested = \n \n t \n"]


@pytest.mark.parametrize("name", ["valid.txt", "test.txt"])
def test_wikitext_restores_the_original_file_and_its_articles(name: str, tmp_path: Path, shared_data: Path) -> None:
    original = (shared_data / "wikitext-2" / name).read_bytes()
    # The rows as the dataset has them: a line without text is "".
    rows = [line if line.strip() else "" for line in original.decode().splitlines(keepends=True)]
    folder = "wikitext-2-v1"
    files = {f"{folder}/{split}-00000-of-00001.parquet": parquet(rows) for split in ("train", "validation")}
    corpora = [
        build_corpus("wikitext", subset=folder, unit=unit, path=str(write(tmp_path, files)))
        for unit in ("article", "split")
    ]
    articles, (text,) = (list(corpus.documents("val")) for corpus in corpora)
    assert text.encode() == original == "".join(articles).encode()
    assert len(articles) == 60  # Merity et al. 2016, table 1
    assert [corpus.is_continuous for corpus in corpora] == [False, True]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_presets_have_the_properties_of_a_corpus(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"path": str(write(tmp_path, layout()[name]))}
    if name in ("openwebtext", "fineweb_edu"):
        options["val_fraction"] = 0.1
    if name == "wikitext":
        options["subset"] = "wikitext-2-raw-v1"
    subject = put_under_test(find_component(f"corpus:{name}"), options)
    for property_ in properties_of("corpus"):
        result = str(check_property(property_, subject))
        assert result == f"{property_.name} passed" or result.startswith(f"{property_.name} skipped"), result


# ---------------------------------------------------------------------- fingerprints and caches


def test_streaming_does_not_change_the_fingerprint(hub: HubServer) -> None:
    commit = hub.add(REPOSITORIES["tinystories"], layout()["tinystories"], "datasets")
    a, b = (build_corpus("tinystories", revision=commit, streaming=streaming) for streaming in (True, False))
    assert a.fingerprint() == b.fingerprint()


def test_a_pinned_commit_needs_no_network_for_its_fingerprint(hub: HubServer) -> None:
    fingerprints = {name: build_corpus(name).fingerprint() for name in REPOSITORIES}
    assert len(set(fingerprints.values())) == 4
    assert hub.requests == []


def test_a_branch_has_the_fingerprint_of_its_newest_commit(hub: HubServer) -> None:
    first = hub.add(REPOSITORIES["wikitext"], layout()["wikitext"], "datasets")
    on_branch = build_corpus("wikitext", revision="main").fingerprint()
    assert on_branch == build_corpus("wikitext", revision=first).fingerprint()
    hub.add(REPOSITORIES["wikitext"], {**layout()["wikitext"], "README.md": b"new"}, "datasets")
    assert build_corpus("wikitext", revision="main").fingerprint() != on_branch


def test_every_pin_is_a_commit(hub: HubServer) -> None:
    for name in REPOSITORIES:
        revision = build_corpus(name).config.revision  # type: ignore[attr-defined]
        assert len(revision) == 40
        assert int(revision, 16)


def test_the_fingerprint_of_a_local_copy_is_of_its_content(tmp_path: Path) -> None:
    folder = write(tmp_path, layout()["openwebtext"])

    def fingerprint(**options: Any) -> str:
        return build_corpus("openwebtext", path=str(folder), **options).fingerprint()

    before = fingerprint()
    write(folder, {"README.md": b"not data"})
    assert fingerprint() == before
    assert fingerprint(n_files=1) != before
    write(folder, {"plain_text/train-00001-of-00002.parquet": parquet(["other"])})
    assert fingerprint() != before


def test_what_was_downloaded_is_read_again_without_a_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add(REPOSITORIES["tinystories"], layout()["tinystories"], "datasets")
    before = both(build_corpus("tinystories", revision=commit))
    downloads = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert len(downloads) == 3  # the two files of the training split, one of the validation split, once each
    n_requests = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert both(build_corpus("tinystories", revision=commit)) == before
    assert len(hub.requests) == n_requests


def test_streamed_files_are_not_stored(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add(REPOSITORIES["tinystories"], layout()["tinystories"], "datasets")
    both(build_corpus("tinystories", revision=commit, streaming=True))
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_tokens_of_a_preset_are_cached(hub: HubServer) -> None:
    commit = hub.add(REPOSITORIES["tinystories"], layout()["tinystories"], "datasets")
    corpus = {"type": "tinystories", "revision": commit}
    for _ in range(2):
        _, store = prepare(Reference("corpus").validate(corpus).build(), Reference("tokenizer").validate("byte"))
        n_requests = len(hub.requests)
    assert (len(store.spans["train"]), len(store.spans["val"])) == (5, 2)
    assert len(hub.requests) == n_requests


# ---------------------------------------------------------------------- errors


def test_a_damaged_download_is_refused_and_removed(hub: HubServer) -> None:
    commit = hub.add(REPOSITORIES["tinystories"], layout()["tinystories"], "datasets")
    path = "data/validation-00000-of-00001-869c898b519ad725.parquet"
    hub.corrupt.add(path)
    corpus = build_corpus("tinystories", revision=commit)
    with pytest.raises(DataError, match=r"corpus 'tinystories': roneneldan/TinyStories: data/validation.*is damaged: "):
        list(corpus.documents("val"))
    hub.corrupt.clear()
    assert list(corpus.documents("val")) == texts("held out", 2)


@pytest.mark.parametrize("from_hub", [True, False])
def test_a_missing_shard_is_named(from_hub: bool, hub: HubServer, tmp_path: Path) -> None:
    files = layout()["openwebtext"]
    del files["plain_text/train-00000-of-00002.parquet"]
    if from_hub:
        corpus = build_corpus("openwebtext", revision=hub.add(REPOSITORIES["openwebtext"], files, "datasets"))
    else:
        corpus = build_corpus("openwebtext", path=str(write(tmp_path, files)))
    with pytest.raises(DataError, match="file plain_text/train-00000-of-00002 is missing"):
        list(corpus.documents("train"))


def test_a_folder_with_another_layout_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, layout()["wikitext"])
    with pytest.raises(DataError, match=r"has no file sample/10BT/\*\.parquet\. Get a copy .*`hf download"):
        list(build_corpus("fineweb_edu", path=str(folder)).documents("train"))


def test_fewer_files_than_asked_for_are_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path, layout()["openwebtext"])
    with pytest.raises(DataError, match="has 2 data files, fewer than n_files=3"):
        list(build_corpus("openwebtext", path=str(folder), n_files=3).documents("train"))


def test_bytes_that_are_not_utf8_are_located(tmp_path: Path) -> None:
    files = {**layout()["tinystories"], "TinyStoriesV2-GPT4-train.txt": b"One.\n<|endoftext|>\nTwo \xff.\n"}
    corpus = build_corpus("tinystories", subset="v2", path=str(write(tmp_path, files)))
    with pytest.raises(DataError, match=r"TinyStoriesV2-GPT4-train\.txt: byte 23 is not UTF-8"):
        list(corpus.documents("train"))


@pytest.mark.parametrize("streaming", [True, False])
def test_without_a_network_the_command_says_what_to_do(
    streaming: bool, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    corpus = f'{{"type": "wikitext", "streaming": {str(streaming).lower()}}}'
    result = CliRunner().invoke(main, ["prepare", corpus])
    assert result.exit_code == 2
    assert "corpus 'wikitext': Salesforce/wikitext: HF_HUB_OFFLINE is set" in result.output
    assert "`hf download --repo-type dataset Salesforce/wikitext --local-dir FOLDER`" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "RepoNotFound", "has no such repository, or it is private"),
        (403, "GatedRepo", "is gated: .* Accept their conditions"),
        (403, "", r"refuses the request \(HTTP 403\)"),
        (404, "", "has no such repository|HTTP 404"),
        (418, "", "answers with HTTP 418"),
    ],
)
def test_refusals_of_the_hub_are_reported(status: int, code: str, reason: str, hub: HubServer) -> None:
    commit = hub.add(REPOSITORIES["wikitext"], layout()["wikitext"], "datasets")
    repository = hub.repositories["datasets/Salesforce/wikitext"]
    repository.status, repository.error_code = status, code
    with pytest.raises(DataError, match=reason):
        list(build_corpus("wikitext", revision=commit).documents("val"))


# ---------------------------------------------------------------------- tinyshakespeare


@pytest.fixture
def file_server(shared_data: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(shared_data))

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_tinyshakespeare_is_split_as_in_nanogpt(shared_data: Path) -> None:
    corpus = build_corpus("tinyshakespeare", path=str(shared_data / "tinyshakespeare.txt"))
    (train,), (val,) = both(corpus)
    assert (len(train), len(val)) == (1_003_854, 111_540)
    assert (train + val).encode() == (shared_data / "tinyshakespeare.txt").read_bytes()
    assert corpus.is_continuous


def test_tinyshakespeare_is_downloaded_once(
    file_server: str, shared_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyShakespeareCorpus, "url", f"{file_server}/tinyshakespeare.txt")
    downloaded = build_corpus("tinyshakespeare")
    local = build_corpus("tinyshakespeare", path=str(shared_data / "tinyshakespeare.txt"))
    assert both(downloaded) == both(local)
    assert downloaded.fingerprint() == local.fingerprint()
    monkeypatch.setattr(TinyShakespeareCorpus, "url", f"{file_server}/missing")
    assert both(downloaded) == both(local)
    assert [path.name for path in (cache / "downloads").rglob("*") if path.is_file()] == ["tinyshakespeare.txt"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.txt", "answers with HTTP 404"),
        ("wikitext-2/valid.txt", "the download has the SHA-256 f0737ed31fc1329026e95cb8b98e19c2"),
    ],
)
def test_another_download_is_refused(
    path: str, reason: str, file_server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyShakespeareCorpus, "url", f"{file_server}/{path}")
    result = CliRunner().invoke(main, ["prepare", "tinyshakespeare"])
    assert result.exit_code == 2
    assert reason in result.output
    assert "set the corpus's `path` to the file" in result.output
    assert not [file for file in (cache / "downloads").rglob("*") if file.is_file()]


def test_an_unreachable_server_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyShakespeareCorpus, "url", "http://127.0.0.1:9/input.txt")
    with pytest.raises(
        DataError, match=r"corpus 'tinyshakespeare': .* cannot be downloaded: .*set the corpus's `path`"
    ):
        list(build_corpus("tinyshakespeare").documents("train"))


def test_a_changed_local_copy_is_refused(shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_bytes((shared_data / "tinyshakespeare.txt").read_bytes()[:-1])
    with pytest.raises(DataError, match="is not the file of the dataset: its SHA-256 is"):
        list(build_corpus("tinyshakespeare", path=str(file)).documents("train"))
