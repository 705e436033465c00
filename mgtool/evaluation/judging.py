"""What a judge's part in a run means for the run."""

from __future__ import annotations

import dataclasses

import msgspec

from mgtool.evaluation.judge_models import KeptJudge
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.records import Failure

NO_REPLY = "the judge gave no reply that can be read"


def with_judge(run: ScoredRun, judge: KeptJudge | None) -> ScoredRun:
    """A run with what its judge did: an answer without a readable reply is a failure, and every cost is told."""
    if judge is None:
        return run
    unread = [score.question_id for score in run.scores if score.fields.get("unread")]
    failures = [Failure(id=number, stage="eval", reason="model_error", detail=NO_REPLY) for number in unread]
    counts = msgspec.structs.replace(run.counts, unjudged=len(unread))
    notes = [*run.result.notes, *_notes(judge)]
    result = msgspec.structs.replace(run.result, counts=counts, notes=notes, judge=judge.use)
    return dataclasses.replace(run, result=result, failures=[*run.failures, *failures])


def _notes(judge: KeptJudge) -> list[str]:
    notes = []
    if judge.otherwise:
        notes.append(f"the judge was asked otherwise than the original asks: {', '.join(judge.otherwise)}")
    if judge.use.over_budget:
        spent = f"`judge_budget` {judge.budget.text} is spent: {judge.use.over_budget:,} questions were not asked"
        notes.append(f"{spent}; the same run with a larger one asks only these")
    return notes
