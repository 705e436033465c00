"""Answers by vLLM: it is handed prompts whose pictures this project has seen, and its tokens are chosen here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mgtool.errors import ItemError, MgtoolError
from mgtool.inference.engine import NO_TOKEN, Engine
from mgtool.inference.scheduler import Group, RunningSequence
from mgtool.inference.vllm_model import VllmModel
from mgtool.inference.vllm_sampling import parameters

_REFUSED = (ValueError, TypeError, LookupError, NotImplementedError)
"""What vLLM raises for one prompt that it does not take."""


class VllmEngine(Engine):
    """As `Engine`; what prompts begin with is shared by vLLM's own cache of prefixes.

    Args:
        model: with its engine.
        processor: the model's.
        options: as of `Engine`; with a `batch_size` of 1, prompts share nothing.
    """

    model: VllmModel

    def __init__(self, model: VllmModel, processor: Any, **options: Any) -> None:
        super().__init__(model, processor, **options)
        self._engine, self._alone = model.started.engine, options.get("batch_size") == 1
        model.started.choose = self._chosen
        self._broken_rows: set[int] = set()
        self._behind = 0  # vLLM's step ends with its tokens

    def _no_rows(self) -> Any:
        return _VllmRows()

    def _schedule(self) -> None:
        """Hand over groups while there is room; what there is memory for is vLLM's to see."""
        while self._scheduler.has_room():
            group = self._scheduler.next_group(self.token_budget)
            if group is None:
                return
            try:
                visuals = self.visuals(group)
            except (RuntimeError, ValueError, IndexError) as error:
                self._retreat(group, error)
                continue
            for at in range(len(group.prompts)):
                self._hand_over(group.part(at, at + 1), visuals)

    def _hand_over(self, single: Group, visuals: Sequence[Tensor]) -> None:
        begun = self._begin(single, visuals)
        if isinstance(begun, RunningSequence):
            prompt = self.model.prompt(single.prompts[0], single, visuals)
            salt = {"cache_salt": f"alone-{begun.number}"} if self._alone else {}
            wanted = parameters(begun.number, limit=begun.limit, ends=sorted(self._ends))
            try:
                self._engine.add_request(str(begun.number), {**prompt, **salt}, wanted)
            except _REFUSED as error:
                begun = _refused(error)
            else:
                self._scheduler.running.append(begun)
                return
        self._ready.append((single.numbers[0], begun))

    def _run(self) -> None:
        """One token more for every row that vLLM has room for."""
        running = {sequence.number: sequence for sequence in self._scheduler.running}
        if not running:
            return
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise _dead(error) from error
        for output in outputs:
            sequence = running[int(output.request_id)]
            sequence.ids += output.outputs[0].token_ids
            if sequence.number in self._broken_rows:
                sequence.ids[-1] = NO_TOKEN
            sequence.finish_reason = self._ended(sequence) if sequence.ids else None

    def _retire(self) -> None:
        """As `Engine._retire`; rows that vLLM would go on with are taken from it."""
        before = {sequence.number for sequence in self._scheduler.running}
        super()._retire()
        left = before - {sequence.number for sequence in self._scheduler.running}
        if left:
            self._engine.abort_request([str(number) for number in left])
            self._broken_rows -= left

    def _chosen(self, logits: Tensor, numbers: Sequence[int]) -> Tensor:
        """As `Chooser`."""
        running = {sequence.number: sequence for sequence in self._scheduler.running}
        tokens = self._choose(logits, [running[number] for number in numbers])
        self._broken_rows |= {
            number for number, token in zip(numbers, tokens.tolist(), strict=True) if token == NO_TOKEN
        }
        return torch.full_like(logits, -torch.inf).scatter_(1, tokens.clamp(min=0)[:, None], 0.0)


class _VllmRows:
    """Rows are vLLM's own."""

    held = 0

    def leave(self, rows: Sequence[int]) -> None:
        pass

    def forget(self) -> None:
        pass


def _refused(error: Exception) -> ItemError:
    text = " ".join(str(error).split())[:200]
    return ItemError("prompt_too_long" if "max_model_len" in text or "maximum" in text else "unsupported", text)


def _dead(error: Exception) -> MgtoolError:
    text = " ".join((str(error) or type(error).__name__).split())[:200].rstrip(".")
    kept = "answers so far are kept, and the same command goes on with the rest"
    return MgtoolError(f"`backend` vllm: its engine stopped: {text}; {kept}, also with `backend` native")
