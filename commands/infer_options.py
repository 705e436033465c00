"""The options of `mgtool infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgtool.commands.options import model_folder
from mgtool.errors import UsageError
from mgtool.inference.options import Backend, Explained, PromptStyle, Quantization, Side
from mgtool.runs.devices import Dtype

_ANSWERS, _MODEL, _RUN = "Answers", "Model and devices", "Run"

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, questions, box files, tars, or -.")]
Out = Annotated[
    str | None, typer.Option("--out", metavar="FILE|-", help="Answers file, JSON lines; - for stdout. Needed.")
]
Model = Annotated[
    Path,
    typer.Option(
        "--model",
        metavar="PATH|tiny|hf:NAME",
        parser=model_folder,
        help="A folder of `mgtool import`, or tiny; hf: and a folder or owner/name: any of transformers.",
    ),
]
Images = Annotated[str | None, typer.Option("--images", help="Folder that names of pictures start from.")]
Boxes = Annotated[
    str | None,
    typer.Option("--boxes", metavar="PATH|off", help="Box file or folder; off for none. Else the samples' own."),
]

Task = Annotated[str, typer.Option("--task", help="caption, vqa, or a benchmark: its prompt and limit of tokens.")]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", metavar="TEMPLATE", help="What to ask: {question} and other fields are filled in."),
]
Prompts = Annotated[PromptStyle, typer.Option("--prompts", help="Whose words a benchmark's task asks in.")]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="System text before the first turn (default: the sample's own)."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="Limit of an answer (default: the task's, or 100).")
]
Temperature = Annotated[
    float, typer.Option("--temperature", help="Sample at this temperature; 0 is greedy.", rich_help_panel=_ANSWERS)
]
TopP = Annotated[
    float,
    typer.Option("--top-p", help="Sample among the likeliest tokens of this mass.", rich_help_panel=_ANSWERS),
]
Seed = Annotated[
    int, typer.Option("--seed", help="Of sampling; with a sample's id it fixes its answer.", rich_help_panel=_ANSWERS)
]
NumSamples = Annotated[
    int,
    typer.Option("--num-samples", min=1, help="Answers to each question, a line each.", rich_help_panel=_ANSWERS),
]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="Ends an answer; may be repeated.", rich_help_panel=_ANSWERS),
]
Choices = Annotated[
    str | None,
    typer.Option(
        "--choices", metavar="A,B,...", help="Answer with the likeliest of these; scores all.", rich_help_panel=_ANSWERS
    ),
]
YesNo = Annotated[bool, typer.Option("--yes-no", help="The same as --choices Yes,No.", rich_help_panel=_ANSWERS)]
Logprobs = Annotated[bool, typer.Option("--logprobs", help="Log-probability of every token.", rich_help_panel=_ANSWERS)]
Explain = Annotated[
    Explained | None,
    typer.Option("--explain", help="boxes: what each object's token did to the answer.", rich_help_panel=_ANSWERS),
]
Truncate = Annotated[
    Side | None,
    typer.Option("--truncate", help="Cut questions that are too long on this side.", rich_help_panel=_ANSWERS),
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Most prompts decoded together (default: what the device is good for).",
        rich_help_panel=_MODEL,
    ),
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Of the weights (default: float32 on a CPU, else auto).", rich_help_panel=_MODEL),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="cpu, cuda, cuda:1, or auto; cuda:0,cuda:1 is a process each.", rich_help_panel=_MODEL
    ),
]
Quantize = Annotated[
    Quantization | None,
    typer.Option("--quantize", help="Narrower weights of the language model.", rich_help_panel=_MODEL),
]
DeviceMap = Annotated[
    str | None,
    typer.Option("--device-map", metavar="auto", help="One model over several devices.", rich_help_panel=_MODEL),
]
TensorParallel = Annotated[
    int,
    typer.Option("--tensor-parallel", min=1, help="Processes that share every matrix.", rich_help_panel=_MODEL),
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Every prompt alone: the same bits, slowly.", rich_help_panel=_MODEL),
]
BackendOption = Annotated[
    Backend,
    typer.Option(
        "--backend",
        help="What runs the language model; auto: vLLM on a GPU where it is installed and has the model.",
        rich_help_panel=_MODEL,
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Processes for each device that prepare pictures; 0: threads (default: 0 on a CPU, else up to 8).",
        rich_help_panel=_MODEL,
    ),
]

CheckParity = Annotated[
    int,
    typer.Option(
        "--check-parity",
        metavar="N",
        min=0,
        help="Compare N answers batched and alone; write none.",
        rich_help_panel=_RUN,
    ),
]
Unordered = Annotated[
    bool, typer.Option("--unordered", help="With --out -: answers as they are final.", rich_help_panel=_RUN)
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Reuse answers of earlier runs.", rich_help_panel=_RUN),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile", metavar="FILE", help="A trace of the first steps, for chrome://tracing.", rich_help_panel=_RUN
    ),
]


def check_output(out: str | None, *, as_json: bool, unordered: bool, parity: int) -> None:
    """Raise where the output's options do not go together."""
    if out is None and not parity:
        raise UsageError("out", "is missing: a file, or - for stdout")
    if out == "-" and as_json and not parity:
        raise UsageError("as_json", "and `out` - both write to stdout: choose one")
    if unordered and out != "-":
        raise UsageError("unordered", "is for `out` -: an answers file is always in the order of the input")
