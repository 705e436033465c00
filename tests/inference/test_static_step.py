"""Steps over buffers that stay: none depends on data, a replayed one is the computed one, tokens come late."""

from __future__ import annotations

import functools

import pytest
import torch
from groups import picture
from tiny_models import KIT, tiny_config, tiny_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from mgtool.inference import engine as engines
from mgtool.inference import static_step
from mgtool.inference.engine import Engine
from mgtool.inference.prefix_store import GridShape, Prefix, PrefixStore
from mgtool.inference.rows import Rows
from mgtool.inference.scheduler import Group
from mgtool.inference.static_step import StaticSteps, StepInputs, StepShape
from mgtool.model import IMAGE_TOKEN_ID, MGLlavaProcessor

KINDS = {"llama": {}, "mistral": {"sliding_window": 12}, "qwen2": {}, "phi3": {}, "gemma2": {"head_dim": 8}}
FORBIDDEN = ("_local_scalar_dense", "nonzero", "_pin_memory", "unique2", "equal")
"""Operations that a graph cannot hold: they wait for the device, or read memory of the host that may be gone."""


class Recorded(TorchDispatchMode):
    """The operations, and those of them that take something from the host."""

    def __init__(self):
        super().__init__()
        self.names, self.from_host = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.names.append((name, tuple(getattr(found, "shape", ()))))
        tensors = [one for one in args if isinstance(one, torch.Tensor) and one.ndim]
        if any(one.device.type == "cpu" for one in tensors):
            self.from_host.append(name)
        return found


def step_of(model, device, shape):
    """A step over buffers of a shape, all on a device."""
    config = model.config
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rows = Rows(layers, device, at_once=True)
    like = torch.zeros(1, heads, 1, width, device=device)
    rows._make_room([like] * layers, shape.grid.rows, shape.width)
    store = PrefixStore()
    store.keys, store.values = (
        [torch.zeros(shape.grid.slots, heads, shape.grid.longest, width, device=device) for _ in range(layers)]
        for _ in range(2)
    )
    rows.step = StepInputs(shape, device)
    return lambda: rows.step.compute(model, rows.cache, store)


def built(kind):
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "pad_token_id": 0}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2} | KINDS[kind]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_waits_for_nothing_and_takes_nothing_from_the_host(kind):
    shape = StepShape(GridShape(8, 4, 2, 64), 64)
    with FakeTensorMode(), torch.no_grad():  # would refuse a shape that depends on data
        device = torch.device("cuda:0")
        with device:
            model = built(kind)
        step = step_of(model, device, shape)
        step()
        runs = []
        for _ in range(2):
            with Recorded() as recorded:
                logits = step()
            runs.append(recorded)
    assert logits.shape == (8, model.config.vocab_size)
    assert logits.device == device
    assert not {name for name, _ in runs[0].names} & {*FORBIDDEN}
    assert not runs[0].from_host
    assert runs[0].names == runs[1].names


class Traced:
    """Records steps as the list of their operations, which reads and writes the very same buffers."""

    def __init__(self):
        self.replays = 0

    def __call__(self, step):
        graph = make_fx(step)()

        def replay():
            self.replays += 1
            return graph()

        return replay


def tokens_of(model, capture, steps=14):
    """Of rows behind prefixes of different lengths, some of which leave and come on the way."""
    rows = Rows(model.config.num_hidden_layers, model.device, at_once=True, capture=capture)

    def enter(length, first):
        cache = DynamicCache()
        model(input_ids=torch.arange(1, 1 + length)[None], past_key_values=cache, use_cache=True)
        rows.add([Prefix.of(cache)] * 2, None, rows.lengths.new_zeros(2), torch.tensor([first, first + 1]))

    for number, length in enumerate((9, 30, 5)):
        enter(length, 7 * number + 1)
    found = []
    for number in range(steps):
        rows.advance(model, lambda logits: logits.argmax(-1))
        found.append(rows.tokens.tolist())
        if number in (4, 9):
            rows.leave([1, 3])
        if number == 9:
            enter(300, 11)
    return found


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@torch.no_grad()
def test_a_replayed_step_gives_the_tokens_of_one_that_is_computed(kind):
    model = built(kind)
    traced = Traced()
    assert tokens_of(model, traced) == tokens_of(model, None)
    assert traced.replays >= 6


def test_a_step_that_cannot_be_recorded_is_computed(caplog):
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    steps = StaticSteps(refuse)
    inputs = steps.inputs(StepShape(GridShape(1, 1, 1, 0), 64), torch.device("cpu"), ())
    found = [steps.run(inputs, lambda: torch.ones(1)).item() for _ in range(5)]
    assert found == [1] * 5
    assert [record.getMessage() for record in caplog.records] == [
        "steps are not replayed as graphs: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize("batch_size", [3, 30])
def test_tokens_that_are_read_a_step_late_are_the_same(batch_size, monkeypatch):
    model = tiny_model(tiny_config())
    processor = MGLlavaProcessor(AutoTokenizer.from_pretrained(KIT / "llm"))
    groups = [
        Group(
            (str(at),), [picture(at)], [2 * at, 2 * at + 1], [[1, IMAGE_TOKEN_ID, 30 + at, 7], [1, IMAGE_TOKEN_ID, 9]]
        )
        for at in range(5)
    ]
    monkeypatch.setattr(engines, "Rows", functools.partial(Rows, at_once=True))
    monkeypatch.setattr(static_step, "SEEN_BEFORE", 0)

    def answers(behind):
        engine = Engine(model, processor, max_new_tokens=12, batch_size=batch_size)
        engine._behind, engine._ends = behind, set(range(0, 400, 9))
        return {number: (outcome.ids, outcome.finish_reason) for number, outcome in engine.generate(groups)}

    at_once = answers(0)
    assert answers(1) == at_once
    assert {reason for _, reason in at_once.values()} == {"stop", "length"}
