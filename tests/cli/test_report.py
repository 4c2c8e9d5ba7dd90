"""`gptzoo report` from the command line: files, JSON, the local server, and errors."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from synthetic_outcome import six_variants, write_folder

from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.report.serve import ReportServer
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.cli import main


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "ablation"
    write_folder(six_variants(done=0.6), path)
    return path


@pytest.fixture
def server(folder: Path) -> Iterator[ReportServer]:
    with ReportServer(folder, 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: ReportServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_a_report_is_a_page_with_figures_and_tables(folder: Path, tmp_path: Path) -> None:
    done = gptzoo("report", folder)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder / "report" / "report.html")
    assert {path.name for path in (folder / "report").iterdir()} == {"report.html", "figures", "tables"}
    tables = {path.name for path in (folder / "report" / "tables").iterdir()}
    assert {"ranking.csv", "ranking.parquet", "ranking.md", "ranking.tex", "trials.csv", "curves.csv"} <= tables


@pytest.mark.slow
def test_json_has_the_analysis_and_lists_the_files(folder: Path, tmp_path: Path) -> None:
    done = gptzoo("report", folder, "--out", tmp_path / "elsewhere", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["page"] == str(tmp_path / "elsewhere" / "report.html")
    assert all(Path(file).is_file() for file in data["files"])
    assert data["analysis"] == json.loads(json.dumps(asdict(analyse(read_outcome(folder)))))


def test_a_folder_without_an_ablation_is_an_error(tmp_path: Path) -> None:
    done = gptzoo("report", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is not the folder of an ablation" in done.stderr
    assert gptzoo("report", tmp_path / "nowhere").exit_code == 2


def test_the_folder_of_a_single_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    done = gptzoo("report", tmp_path)
    assert done.exit_code == 2
    assert "is a single run" in done.stderr


def test_an_output_folder_that_cannot_be_written_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = gptzoo("report", folder, "--out", tmp_path / "file")
    assert done.exit_code == 2
    assert "file" in done.stderr


def test_a_port_in_use_is_an_error(folder: Path, server: ReportServer) -> None:
    done = gptzoo("report", folder, "--serve", "--port", str(server.server_port))
    assert done.exit_code == 2
    assert "choose another --port" in done.stderr


def test_the_server_updates_the_page_when_a_trial_finishes(folder: Path, server: ReportServer) -> None:
    before, page = get(server, "/version"), get(server, "/")
    assert page[0] == 200
    assert "Preliminary: 10 of 30 trials" in page[1]
    assert get(server, "/version") == before
    write_folder(six_variants(), folder)
    assert get(server, "/version") != before
    assert "Preliminary" not in get(server, "/page")[1]


def test_the_server_accepts_requests_from_this_machine_only(server: ReportServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/", host="evil.example")[0] == 403
    assert get(server, "/../ablation.json")[0] == 404


@pytest.mark.parametrize("option", [("--json",), ("--out", "x")])
def test_options_for_files_are_refused_by_the_server(folder: Path, option: tuple[str, ...]) -> None:
    result = gptzoo("report", folder, "--serve", "--port", "0", *option)
    assert (result.exit_code, "Leave out --out and --json" in result.stderr) == (2, True), result.output


def test_a_browser_that_leaves_is_no_error(
    server: ReportServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handled, handle_error = threading.Event(), server.handle_error
    monkeypatch.setattr(server, "handle_error", lambda *of: (handle_error(*of), handled.set()))
    monkeypatch.setattr(server, "page", lambda: "x" * 2**26)  # more than the buffers of the connection hold
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(100)
    assert handled.wait(30)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(server, "page", lambda: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        get(server, "/")
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_deleted_ablation_is_reported_by_the_server(folder: Path, server: ReportServer) -> None:
    (folder / "ablation.json").unlink()
    status, text = get(server, "/")
    assert status == 410
    assert "is not the folder of an ablation" in text
