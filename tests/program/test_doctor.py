import json
import shutil
from pathlib import Path

import pytest

from supernet.program import doctor
from supernet.program.commands import main
from supernet.speed import kernels


def by_name(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, dict[str, str]]:
    capsys.readouterr()
    main(["doctor", *map(str, words), "--json"])
    return {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_an_installation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: object) -> None:
        raise RuntimeError("no such\ninstruction")

    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "torch" in text and "GB free" in text and "self-test" in text
    monkeypatch.setattr(doctor, "self_test", broken)
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    findings = by_name(capsys)
    assert findings["self-test"]["state"] == "wrong"
    assert findings["self-test"]["text"] == "RuntimeError: no such instruction"
    assert findings["kernels"]["state"] == "note"
    assert findings["cache"]["state"] in ("ok", "note")


def test_a_run_folder(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    findings = by_name(capsys, run)
    assert {finding["state"] for finding in findings.values()} == {"ok"}, findings
    assert findings["retrain"]["text"].startswith("done, in ")
    assert findings["next"]["text"] == f"all is done: supernet show {run}, or supernet analyze {run}"
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    weights = next(run.glob("retrain/*/0/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    (run / "results.json").unlink()
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("seed: 0", "seed: 5", 1))
    (run / "study.sqlite").write_bytes(b"noise" * 1000)
    findings = by_name(capsys, run)
    wrong = {name: finding["text"] for name, finding in findings.items() if finding["state"] == "wrong"}
    assert set(wrong) == {"damage", "edits", "study.sqlite"}
    assert str(weights) in wrong["damage"] and "seed: 0 then, 5 now" in wrong["edits"]
    assert findings["next"]["text"] == f"after that: supernet retrain {run}"
    assert main(["doctor", str(run)]) == 2
    (run / "candidates.sqlite").unlink()
    assert "is lost" in by_name(capsys, run)["search"]["text"]
    assert "is no run folder" in by_name(capsys, tmp_path)["configuration"]["text"]
