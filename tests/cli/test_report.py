"""gptzoo report, as a user meets it: files, JSON, a server on this machine, and wrong input."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_up import six_variants, write_folder

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
    with ReportServer(folder, 0) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def get(server: ReportServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_report_is_a_page_and_pictures_and_tables(folder: Path, tmp_path: Path) -> None:
    done = gptzoo("report", folder)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(folder / "report" / "report.html")
    assert {path.name for path in (folder / "report").iterdir()} == {"report.html", "figures", "tables"}
    tables = {path.name for path in (folder / "report" / "tables").iterdir()}
    assert {"ranking.csv", "ranking.parquet", "ranking.md", "ranking.tex", "trials.csv", "curves.csv"} <= tables


def test_json_states_what_the_analysis_does_and_lists_the_files(folder: Path, tmp_path: Path) -> None:
    done = gptzoo("report", folder, "--out", tmp_path / "elsewhere", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["page"] == str(tmp_path / "elsewhere" / "report.html")
    assert all(Path(file).is_file() for file in told["files"])
    assert told["analysis"] == json.loads(json.dumps(asdict(analyse(read_outcome(folder)))))


def test_what_is_no_ablation_is_told_so(tmp_path: Path) -> None:
    done = gptzoo("report", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no ablation's folder" in done.stderr
    assert gptzoo("report", tmp_path / "nowhere").exit_code == 2


def test_a_single_run_is_told_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    done = gptzoo("report", tmp_path)
    assert done.exit_code == 2
    assert "holds a single run" in done.stderr


def test_what_cannot_be_written_to_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = gptzoo("report", folder, "--out", tmp_path / "file")
    assert done.exit_code == 2
    assert "file" in done.stderr


def test_a_port_that_is_taken_is_told(folder: Path, server: ReportServer) -> None:
    done = gptzoo("report", folder, "--serve", "--port", str(server.server_port))
    assert done.exit_code == 2
    assert "choose another --port" in done.stderr


def test_the_server_makes_the_page_anew_when_a_trial_has_ended(folder: Path, server: ReportServer) -> None:
    before, page = get(server, "/version"), get(server, "/")
    assert page[0] == 200
    assert "Preliminary: 10 of 30 trials" in page[1]
    assert get(server, "/version") == before
    write_folder(six_variants(), folder)
    assert get(server, "/version") != before
    assert "Preliminary" not in get(server, "/page")[1]


def test_the_server_is_for_this_machine_only(server: ReportServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/", host="evil.example")[0] == 403
    assert get(server, "/../ablation.json")[0] == 404


def test_a_folder_that_is_taken_away_is_told(folder: Path, server: ReportServer) -> None:
    (folder / "ablation.json").unlink()
    status, text = get(server, "/")
    assert status == 410
    assert "no ablation's folder" in text
