"""The command `optout lint-templates`: what it reads, what it says, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from consumer.cli import run
from consumer.domain.confirmation import OPTED_OUT_TEXT

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "Hi {first_name}, see you at 3. Reply STOP to opt out."
NOT_TOLD = 'stop-not-told: it does not tell the patient how to opt out, as in "Reply STOP to opt out"'


def lint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    """Run the command; return its exit code, the lines of its answer, and what it said besides."""
    code = run(["lint-templates", *map(str, arguments)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out.splitlines(), said.err


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_a_template_that_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A template without a fault is exit 0 and no line but how many were looked at."""
    file = written(tmp_path, "reminder.txt", GOOD)
    assert lint(capsys, file) == (0, [], "1 template looked at, nothing is wrong\n")


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON lines are judged one by one, and each finding says the file, the line, the code and the template's name."""
    lines = [{"name": "well", "text": GOOD}, {"name": "bare", "text": "Hi"}, {"text": "STOP", "channel": "sms"}]
    file = written(tmp_path, "all.jsonl", "\n\n".join(map(json.dumps, lines)))
    code, out, err = lint(capsys, file)
    assert (code, err) == (1, "3 templates looked at, 2 of them with faults\n")
    assert out[0] == f"{file}:3: {NOT_TOLD} (bare)"
    assert out[1].startswith(f"{file}:5: is-a-keyword: ")
    assert len(out) == 2


@pytest.mark.parametrize(
    "content",
    [
        '{\n  "well": "Reply STOP",\n  "bare":\n    "Hi"\n}\n',
        '[\n  {"name": "well", "text": "Reply STOP"},\n  {"name": "bare", "text": "Hi"}]',
        '\ufeff \r\n\r\n[{"name": "bare", "text": "Hi"}]',
    ],
    ids=["object", "list", "with a byte-order mark and CRLF"],
)
def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    """A JSON object of texts by name, or a list of objects, is judged one by one, each with its line."""
    file = written(tmp_path, "all.json", content)
    code, out, _ = lint(capsys, file)
    assert (code, out) == (1, [f"{file}:3: {NOT_TOLD} (bare)"])


def test_json_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json is an object for each finding, with the word and without the text."""
    file = written(tmp_path, "all.json", '{"visit": "Reply CANCEL to cancel your visit. Reply STOP to opt out, Ann"}')
    code, out, _ = lint(capsys, "--json", file)
    (answer,) = map(json.loads, out)
    assert code == 1
    assert answer.pop("sentence")
    assert answer == {"file": str(file), "line": 1, "name": "visit", "code": "keyword-misused", "word": "CANCEL"}
    assert "Ann" not in out[0]


def test_the_confirmation_of_an_opt_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A template that is said to confirm an opt-out need not tell about STOP."""
    value = {"text": OPTED_OUT_TEXT, "confirms_opt_out": True}
    assert lint(capsys, written(tmp_path, "a.jsonl", json.dumps(value)))[0] == 0
    assert lint(capsys, written(tmp_path, "b.json", json.dumps({"bye": value})))[0] == 0
    assert lint(capsys, written(tmp_path, "c.jsonl", json.dumps({"text": OPTED_OUT_TEXT})))[0] == 1


def test_several_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text of several lines is not guessed at, for one STOP would stand for all: --format says what it is."""
    file = written(tmp_path, "some.txt", "Hi Ann\nReply STOP to opt out\n")
    code, out, err = lint(capsys, file)
    assert (code, out) == (2, [])
    assert "--format text if they are one template, --format lines if each is" in err
    assert lint(capsys, "--format", "text", file)[0] == 0
    assert lint(capsys, "--format", "lines", file)[:2] == (1, [f"{file}:1: {NOT_TOLD}"])


def test_standard_input() -> None:
    """- is standard input, and no setting is needed."""
    command = [sys.executable, "-m", "consumer", "lint-templates", "-"]
    done = subprocess.run(command, input="Stop by our office\n", capture_output=True, text=True, env={}, check=False)
    assert (done.returncode, done.stdout) == (1, f"<stdin>:1: {NOT_TOLD}\n")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"Hello\nJos\xe9", "line 2: this is not UTF-8 text"),
        ("a.jsonl", b'{"text": "Jos\xe9"}', "line 1: this is not UTF-8 text"),
        ("a.txt", "\n \n", "there is no template in it"),
        ("a.json", "{}", "there is no template in it"),
        ("a.json", "", "there is no template in it"),
        ("a.jsonl", "", "there is no template in it"),
        ("a.csv", "name,text\n", "a.csv: say what is in it by --format"),
        ("a.json", '{\n"a": }', "line 2: this is not JSON"),
        ("a.json", "[" * 100_000, "this is not JSON that can be read"),
        ("a.json", '"Ann"', "this is neither a JSON object nor a list"),
        ("a.json", '{"a": "Ann",\n"a": "Bob"}', "line 2: there is another template of that name before it"),
        ("a.json", '["Ann"]', "line 1: this is not a template"),
        ("a.json", '{"a": {"b": "Ann"}}', 'line 1: there is no "text" that is a text'),
        ("a.jsonl", '{"text": "Ann"}\n{"body": "Ann"}', 'line 2: there is no "text" that is a text'),
        ("a.jsonl", '{"text": "Ann", "name": 1}', 'line 1: its "name" is not a text'),
        ("a.jsonl", '{"text": "Ann", "confirms_opt_out": "yes"}', "is neither true nor false"),
    ],
)
def test_a_file_that_holds_no_templates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | bytes, sentence: str
) -> None:
    """What cannot be read is one sentence that quotes no text, with exit 2, and nothing is said of other files."""
    other = written(tmp_path, "other.txt", "Hi")
    code, out, err = lint(capsys, other, written(tmp_path, name, content))
    assert (code, out) == (2, [])
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert "Ann" not in err
    assert "Jos" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing argument 'FILE...'"),
        (["/nowhere/at-all.txt"], "No such file or directory"),
        (["/"], "Is a directory"),
        (["--format", "csv", "-"], "'csv' is not one of 'text', 'lines', 'jsonl', 'json'"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    """Wrong use is one sentence and exit 2."""
    code, out, err = lint(capsys, *arguments)
    assert (code, out) == (2, [])
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_names_cannot_speak_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A template's name that holds an escape sequence is shown with it written out."""
    file = written(tmp_path, "a.json", json.dumps({"\x1b[31m\ud800": "Hi"}))
    code, out, _ = lint(capsys, file)
    assert (code, out) == (1, [f"{file}:1: {NOT_TOLD} (\\x1b[31m\\ud800)"])
