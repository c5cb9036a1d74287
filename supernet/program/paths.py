"""The files of a run folder, the interface between the steps. Every file is written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run; each property is one of its files or folders, with the step that writes it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def lock(self) -> Path:
        """Names the command that works in the folder; it is there as long as the command runs."""
        return self.path / ".lock"

    # ---- the first step ----

    @property
    def config(self) -> Path:
        """Every setting; `supernet run config.yaml` repeats the run."""
        return self.path / "config.yaml"

    @property
    def plan(self) -> Path:
        """Lengths and other settings that were chosen for the data and a time; only if they were."""
        return self.path / "plan.json"

    @property
    def environment(self) -> Path:
        """Versions, machine, command and time of each step; each step adds its own."""
        return self.path / "environment.json"

    @property
    def settings(self) -> Path:
        """Settings with which each step began, as far as it depends on them: an edited configuration shows."""
        return self.path / "settings.json"

    @property
    def tuning(self) -> Path:
        """What the self-test chose when the run began, for each kind of device, and on which machine."""
        return self.path / "tuning.json"

    @property
    def data(self) -> Path:
        """Sizes and hashes of the three splits, classes, types and shapes, mean and deviation."""
        return self.path / "data.json"

    @property
    def arrays(self) -> Path:
        """Inputs and targets that were given in Python, as tensors; see `supernet.run`."""
        return self.path / "data.pt"

    # ---- train ----

    @property
    def train(self) -> Path:
        """Folder of the one-shot model's training; its checkpoint is there while it is under way."""
        return self.path / "train"

    @property
    def one_shot(self) -> Path:
        """Weights of the one-shot model; its presence says that train is done."""
        return self.train / "model.safetensors"

    @property
    def history(self) -> Path:
        """Training curve of the one-shot model."""
        return self.train / "history.json"

    @property
    def live_paths(self) -> Path:
        """live_GP of every step as it was trained, packed bits: uint8 [steps, G, ceil(P / 8)]."""
        return self.train / "paths.npy"

    @property
    def trained_limits(self) -> Path:
        """Limits within which live architectures were drawn; only with `paths.limited`."""
        return self.train / "limits.json"

    @property
    def snapshots(self) -> Path:
        """STEP.safetensors: weights at some steps, for the course of the divergence."""
        return self.train / "snapshots"

    # ---- search ----

    @property
    def latency(self) -> Path:
        """Times of modules on the device, checked on whole networks; only if latency is asked for."""
        return self.path / "latency.json"

    @property
    def candidates(self) -> Path:
        """Every candidate with its score and its costs, and what was asked for in each round."""
        return self.path / "candidates.sqlite"

    @property
    def sample(self) -> Path:
        """The scores of the architectures that a joint rank compares with; only if it has the part score."""
        from supernet.search.recording import SAMPLE  # imports torch, which help must not wait for

        return self.candidates.with_name(SAMPLE)

    @property
    def drawn_finalists(self) -> Path:
        """Finalists that are not all scored on all examples yet; only while the search is under way."""
        return self.path / "finalists.drawn.json"

    @property
    def finalists(self) -> Path:
        """Groups of finalists; its presence says that search is done."""
        return self.path / "finalists.json"

    # ---- retrain ----

    @property
    def retrain(self) -> Path:
        """ID/REPEAT/: `result.json` and `weights.safetensors` of one training from scratch."""
        return self.path / "retrain"

    def heat(self, number: int) -> Path:
        """ID/REPEAT/: the same of the shorter trainings of a heat, the first of which has number 1."""
        return self.retrain / "heats" / str(number)

    @property
    def kept(self) -> Path:
        """Groups of finalists after the heats, in the form of `finalists.json`; only if there were heats."""
        return self.retrain / "heats" / "finalists.json"

    def resized(self, setting: str, value: object) -> Path:
        """ID/REPEAT/: the same of finalists at another value of a setting of the space."""
        return self.retrain / "at" / f"{setting}={quote(str(value), safe='')}"

    @property
    def references(self) -> Path:
        """Which references there are and how wide; written before they are trained."""
        return self.retrain / "references.json"

    @property
    def reference_latency(self) -> Path:
        """A copy of `latency.json` with which references are sized."""
        return self.retrain / "latency.json"

    def trained(self, row: Mapping[str, Any]) -> Path:
        """The folder in which the trainings of a network of `results.json` are, by the id of its architecture."""
        return self.reference(row["id"]) if "space" in row else self.retrain

    def reference(self, name: str) -> Path:
        """The folder of the trainings of a known network."""
        return self.retrain / "references" / name

    @property
    def test_opened(self) -> Path:
        """When and for which networks the test split was opened."""
        return self.retrain / "test_opened.json"

    @property
    def test_seen(self) -> Path:
        """Openings of the test split by other runs with the same one-shot model, and the run that trained it; see
        `supernet search --new`."""
        return self.path / "test_seen.json"

    @property
    def study(self) -> Path:
        """The trainings as an Optuna study, for people; only if Optuna is installed."""
        return self.path / "study.sqlite"

    @property
    def artifacts(self) -> Path:
        """Results, weights and drawings of the study's trials."""
        return self.path / "artifacts"

    @property
    def results(self) -> Path:
        """Groups and networks with score, validation and test metric; its presence says that the run is done."""
        return self.path / "results.json"

    # ---- refine ----

    @property
    def refined(self) -> Path:
        """Folder of what `supernet refine` writes; its trainings are in `retrain`."""
        return self.path / "refine"

    @property
    def refine_rounds(self) -> Path:
        """Which candidates are trained in each round; written before they are."""
        return self.refined / "rounds.json"

    @property
    def predictions(self) -> Path:
        """What is expected of every candidate, if that ranks better than scores do."""
        return self.refined / "predictions.csv"

    @property
    def refinement(self) -> Path:
        """What was learnt, from how many trainings, and how well it predicts; its presence says that refine is done."""
        return self.refined / "refine.json"

    @property
    def searched_finalists(self) -> Path:
        """Groups of finalists as the search drew them."""
        return self.refined / "finalists.search.json"

    # ---- analyze ----

    @property
    def analysis(self) -> Path:
        """What the ranking is worth: every number and every point."""
        return self.path / "analysis.json"

    @property
    def analysed(self) -> Path:
        """Folder of everything that an analysis trains or scores."""
        return self.path / "analysis"

    @property
    def analysed_networks(self) -> Path:
        """ID/REPEAT/: `result.json` and `weights.safetensors` of one short training."""
        return self.analysed / "networks"

    @property
    def analysed_sizes(self) -> Path:
        """SETTING=VALUE/ID/REPEAT/: the same for finalists at other sizes."""
        return self.analysed / "at"

    def analysed_size(self, setting: str, value: object) -> Path:
        """The trainings of finalists at one size."""
        return self.analysed_sizes / f"{setting}={quote(str(value), safe='')}"

    def swept(self, rate: float, steps: int | None = None) -> Path:
        """Weights of a one-shot model that is trained at this dropout rate, in the folder of its training.

        Args:
            rate: all its digits are in the name.
            steps: of the training; None for as many as the run's own.
        """
        name = f"{rate}" if steps is None else f"{rate} in {steps} steps"
        return self.analysed / "sweep" / name / "model.safetensors"

    def truth(self, digest: str) -> Path:
        """Scores of architectures that have published accuracies."""
        return self.analysed / f"truth-{digest}.csv"

    # ---- while a step is under way ----

    @property
    def progress(self) -> Path:
        """How far the step under way is, noted each second; hidden, since no result depends on it."""
        return self.path / ".progress.json"

    @property
    def logs(self) -> Path:
        """STEP.csv or STEP/: figures over time; only with `--log`."""
        return self.path / "logs"

    # ---- report, export ----

    @property
    def report(self) -> Path:
        """One page about the run."""
        return self.path / "report.html"

    @property
    def export(self) -> Path:
        """A network by itself: code, weights, .pt2, ONNX, `predict.py`, model card, `export.json`."""
        return self.path / "export"

    def last_of(self, step: str) -> Path:
        """The file that a step writes last: its presence says that the step is done."""
        return {"train": self.one_shot, "search": self.finalists, "retrain": self.results}[step]
