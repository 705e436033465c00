"""MME (Fu et al., 2023; the official `calculation.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from mgtool.errors import InputError, ItemError
from mgtool.files.folder_tree import named_below
from mgtool.records import Failure, Sample, Score
from mgtool.scoring.benchmark import Item, Verdict
from mgtool.scoring.clusters import Floats, codes, ratio
from mgtool.scoring.ground_truth import LONGEST_NAME, Document, Row, Truth, first, whole
from mgtool.scoring.instructions import SINGLE_WORD, question_of
from mgtool.scoring.judged import YesOrNoBenchmark, unread_notes
from mgtool.scoring.normalizers import yes_or_no
from mgtool.scoring.predictions import Answers, Prediction
from mgtool.scoring.statistics import Metric, Statistic

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
ASKED, INSTEAD = "Please answer yes or no.", "Please answer the question only a single word yes or no."
_INSTRUCTIONS = (ASKED, INSTEAD, SINGLE_WORD)
_PREFIX = 4
RESULT_COLUMNS = 4


class Mme(YesOrNoBenchmark):
    """Two questions a picture; a task scores its accuracy plus its share of pictures with both right."""

    name = "mme"
    title = "MME"
    files = "the folder MME_Benchmark_release_version or eval_tool/Your_Results (github.com/BradyFU), or MME.tsv"
    metric = "perception: the sum of 10 tasks; cognition: the sum of 4; a task is 100 acc + 100 acc+"
    headline = "perception"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "yes or no within the first four characters",
        "vlmevalkit": "exactly one of the words yes and no, anywhere; a judge where there is none",
        "mg-llava": "exactly one of the words yes and no, anywhere; no judge",
        "lmms-eval": "as the official one, without periods and white space around; the letters y and n suffice",
    }

    def prompt(self, sample: Sample) -> str:
        """The question, whose own instructions are replaced by the published one."""
        question = question_of(sample)
        if ASKED in question or INSTEAD in question:
            question = question.replace(SINGLE_WORD, "").strip()
        return question.replace(ASKED, INSTEAD)

    def prompt_as(self, sample: Sample, prompts: str) -> str:
        """As `prompt`; LLaVA asks for a word below the question's own request, VLMEvalKit leaves it as it is."""
        question = question_of(sample)
        if prompts == "llava" and SINGLE_WORD not in question:
            return f"{question}\n{SINGLE_WORD}"
        return question if prompts in ("llava", "vlmevalkit") else self.prompt(sample)

    def load(self, truth: Truth) -> list[Item]:
        """Text files of the tasks, or a TSV."""
        items = [item for path in truth.paths for item in _items(path)]
        if not items:
            raise truth.mismatch("MME's text files (`question<TAB>answer`, a folder for each task) or MME.tsv")
        return items

    def folder_answers(self, folder: Path) -> Answers:
        """The results that `calculation.py` takes: TASK.txt with picture, question, target and answer, with tabs."""
        predictions: list[Prediction] = []
        failures: list[Failure] = []
        for path in sorted(folder.glob("*.txt")):
            lines = Document(path).bytes.decode("utf-8", errors="replace").splitlines()
            for number, line in enumerate(lines, 1):
                cells = line.split("\t")
                if len(cells) == RESULT_COLUMNS:
                    name = f"{path.stem}/{cells[0]}"
                    predictions.append(Prediction(id=name, prompt=cells[1], image=name, text=cells[3]))
                elif line.strip():
                    detail = f"{path}:{number}: expected picture, question, target and answer, with tabs"
                    error = ItemError("bad_record", detail)
                    failures.append(Failure.of(f"{path.name} line {number}", "eval", error))
        if not predictions:
            raise InputError(f"{folder}: holds no TASK.txt with picture, question, target and answer, with tabs")
        return Answers(predictions, failures)

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The id; else, as in LLaVA's files, `task/picture` as the id and the question in the prompt."""
        yield str(prediction.id)
        yield _key(str(prediction.id), prediction.prompt)
        yield _key(f"{prediction.fields.get('category', '')}/{prediction.image}", prediction.prompt)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Yes or no, else `other`, which is wrong."""
        said = _READERS[variant](text)
        return Verdict(said, float(said == item.target))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The two sums."""
        tasks = {str(score.fields["task"]) for score in scores}
        parts = {"perception": PERCEPTION, "cognition": COGNITION}
        return {
            name: _sum_of(scores, [t for t in known if t in tasks]) for name, known in parts.items() if tasks & {*known}
        }

    def breakdown(self, scores: Sequence[Score], variant: str) -> dict[str, dict[str, Statistic | Metric]]:
        """The points of each task, its accuracy, and its accuracy+."""
        tasks = list(dict.fromkeys(str(score.fields["task"]) for score in scores))
        return {
            "task": {task: _sum_of(scores, [task]) for task in tasks},
            "accuracy": {task: _sum_of(scores, [task], plus=0.0) for task in tasks},
            "accuracy+": {task: _sum_of(scores, [task], single=0.0) for task in tasks},
        }

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """Which tasks a sum lacks."""
        tasks = {str(score.fields["task"]) for score in scores}
        lacking = [task for task in (*PERCEPTION, *COGNITION) if task not in tasks]
        said = f"tasks without questions here, so that the sums lack them: {', '.join(lacking)}"
        return [*([said] if lacking else []), *unread_notes(scores, "they count as other, which is wrong")]


def _official(text: str) -> str:
    said = text.lower()
    if said in ("yes", "no"):
        return said
    return next((word for word in ("yes", "no") if word in said[:_PREFIX]), "other")


def _lmms_eval(text: str) -> str:
    """Without the spaces around and the periods; one letter suffices."""
    plain = text.lower().strip().replace(".", "")
    return _official({"y": "yes", "n": "no"}.get(plain, plain))


_READERS: dict[str, Callable[[str], str]] = {
    "official": _official,
    "vlmevalkit": lambda text: yes_or_no(text) or "other",
    "mg-llava": lambda text: yes_or_no(text) or "other",
    "lmms-eval": _lmms_eval,
}


def _sum_of(scores: Sequence[Score], tasks: Sequence[str], *, single: float = 1.0, plus: float = 1.0) -> Statistic:
    """Points of tasks from sums of: right, questions, pictures with both right, pictures with both questions."""
    pictures: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for score in scores:
        pictures[str(score.fields["task"]), str(score.fields["picture"])].append(score)
    known = [(task, part) for (task, _), part in pictures.items() if task in tasks]
    rows = np.zeros((len(known), 4 * len(tasks)))
    for row, (task, part) in zip(rows, known, strict=True):
        at = 4 * tasks.index(task)
        hits = [score.score for score in part]
        is_pair = len(hits) > 1
        row[at : at + 4] = sum(hits), len(hits), is_pair and all(hits), is_pair

    def points(sums: Floats) -> Floats:
        accuracy = ratio(sums[..., 0::4], sums[..., 1::4])
        both = ratio(sums[..., 2::4], sums[..., 3::4])
        return np.asarray((single * accuracy + plus * both).sum(-1))

    return Statistic(rows, codes(part[0].group for _, part in known), points)


def _items(path: Path) -> list[Item]:
    if path.is_dir():
        files = [file for file in named_below(path, "*") if file.suffix in (".txt", ".tsv")]
        return [item for file in files for item in _items(file)]
    if path.suffix == ".tsv":
        return [_of_row(row) for document in Truth((path,)).files for row in document.rows()]
    return _of_text(path) if path.suffix == ".txt" else []


def _of_row(row: Row) -> Item:
    image = str(first(row, ("image_path", "image"), ""))
    image = image if len(image) <= LONGEST_NAME else str(row["index"])
    return _item(whole(row["index"]), str(row["category"]), image, row["question"], row["answer"])


def _of_text(path: Path) -> list[Item]:
    """One picture's two questions (in the task's folder), or a task's all (`picture, question, answer`)."""
    items = []
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        cells = line.rstrip("\n").split("\t")
        if len(cells) == 2:
            folder = path.parent.parent if path.parent.name == "questions_answers_YN" else path.parent
            task, image, (question, answer) = folder.name, f"{path.stem}.jpg", cells
        elif len(cells) in (3, 4):
            task, image, question, answer = path.stem, cells[0], cells[1], cells[2]
        elif not line.strip():
            continue
        else:
            raise InputError(
                f"{path}:{place + 1}: expected question and answer, or picture, question and answer, with tabs"
            )
        items.append(_item(f"{task}/{image}#{place % 2 + 1}", task, image, question, answer))
    return items


def _item(number: int | str, task: str, image: str, question: str, answer: str) -> Item:
    name = image if image.startswith(f"{task}/") else f"{task}/{image}"
    return Item(
        id=number,
        question=question,
        target=answer.strip().lower(),
        image=name,
        group=name,
        fields={"task": task, "picture": PurePosixPath(name).stem},
        aliases=(_key(name, question),),
    )


def _key(picture: str, question: str) -> str:
    """Task, picture without its ending or the folders between, and question without its instruction."""
    plain = question
    for instruction in _INSTRUCTIONS:
        plain = plain.replace(instruction, "")
    path = PurePosixPath(picture)
    return f"{''.join(path.parts[:1])}/{path.stem}\n{' '.join(plain.split()).lower()}"
