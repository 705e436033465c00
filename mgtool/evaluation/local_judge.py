"""A judge on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mgtool.errors import CheckpointError
from mgtool.evaluation.judge_costs import TokenUse
from mgtool.files import checkpoints
from mgtool.scoring.benchmark import JudgeRequest


class LocalBackend:
    """A language model of Hugging Face's form, on this machine, one request after the other."""

    def __init__(self, path: str) -> None:
        self.name = f"hf:{path}"
        self.path = path
        self.otherwise: tuple[str, ...] = ()
        self.tokens: dict[int, TokenUse] = {}

    def replies(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[int, str]]:
        """Greedy, or sampled where a request wants a temperature."""
        if not requests:
            return
        import torch

        tokenizer, model = self._loaded()
        for place, request in enumerate(requests):
            ids = tokenizer(_as_text(tokenizer, request), return_tensors="pt", add_special_tokens=False).to(
                model.device
            )
            heat = {"temperature": request.temperature} if request.temperature else {}
            torch.manual_seed(request.repeat)
            with torch.inference_mode():
                out = model.generate(**ids, max_new_tokens=request.max_tokens, do_sample=bool(heat), **heat)
            read = ids["input_ids"].shape[1]
            self.tokens[place] = TokenUse(prompt=read, reply=out.shape[1] - read)
            yield place, tokenizer.decode(out[0, read:], skip_special_tokens=True)

    def _loaded(self) -> tuple[Any, Any]:
        """The tokenizer and the model."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from mgtool.files.model_size import within_weights

        try:
            checkpoints.check_folder(self.path)
            tokenizer = AutoTokenizer.from_pretrained(self.path, trust_remote_code=False)
            with within_weights(self.path):
                model = AutoModelForCausalLM.from_pretrained(
                    self.path, trust_remote_code=False, dtype="auto", device_map="auto"
                )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{self.name}: no language model that can be loaded: {why}") from error
        return tokenizer, model.eval()


def _as_text(tokenizer: Any, request: JudgeRequest) -> str:
    if tokenizer.chat_template is None:
        return f"{request.system}\n{request.user}".lstrip()
    system = [{"role": "system", "content": request.system}] if request.system else []
    turns = [*system, {"role": "user", "content": request.user}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
