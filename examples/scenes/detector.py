"""The scenes' detector: trained and tested by MMDetection's runner, and written as the ONNX file that mgtool ships.

python examples/scenes/detector.py train DATA --work DIR
python examples/scenes/detector.py test DATA --work DIR --split test
python examples/scenes/detector.py export --work DIR --out tiny.onnx
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgtool.detectors import mmcv_ops

mmcv_ops.install()  # before anything imports mmcv.ops

from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

CONFIG = Path(__file__).parent / "detector_config.py"
OPSET = 17


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Train, test or export the scenes' detector.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("train", "train; goes on where an earlier run stopped"), ("test", "average precision")):
        command = commands.add_parser(name, help=about)
        command.add_argument("data", type=Path, help="folder that `make.py scenes` wrote its splits into")
        command.add_argument("--work", type=Path, required=True)
        command.add_argument("--split", default="test")
        command.add_argument("--iterations", type=int)
    command = commands.add_parser("export", help="write the ONNX file")
    command.add_argument("--work", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")  # MMDetection's, about this PyTorch
    if given.command == "export":
        export(given.work, given.out)
        return
    config = configured(given.data, given.work, given.split, given.iterations)
    # The runner's checkpoints are this script's own, and hold its log beside the tensors.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    runner = Runner.from_cfg(config)
    runner.model.to(memory_format=torch.channels_last)  # ten times faster on a CPU
    runner.train() if given.command == "train" else runner.test()


def configured(data: Path, work: Path, split: str = "test", iterations: int | None = None) -> Any:
    """The config with its folders, the set to test on, and another length where one is given."""
    config = Config.fromfile(str(CONFIG))
    config.work_dir = str(work)
    for part, name in (("train", "train"), ("val", "val"), ("test", split)):
        dataset = config[f"{part}_dataloader"].dataset
        dataset.data_root = str(data)
        dataset.ann_file = f"{name}/objects.json"
        dataset.data_prefix = {"img": f"{name}/images/"}
        if part != "train":
            config[f"{part}_evaluator"].ann_file = str(data / dataset.ann_file)
    if iterations:
        config.train_cfg.max_iters = config.param_scheduler[1].end = iterations
    return config


class Boxes(nn.Module):
    """What the ONNX file computes: a score and a box for each place of the three grids.

    Args:
        detector: the trained RTMDet.
        size: side of its pictures in pixels.
    """

    def __init__(self, detector: nn.Module, size: int) -> None:
        super().__init__()
        self.detector = detector
        self.preprocessor = detector.data_preprocessor
        strides = detector.bbox_head.prior_generator.strides
        maps = [(size // stride, size // stride) for stride, _ in strides]
        self.register_buffer("points", torch.cat(detector.bbox_head.prior_generator.grid_priors(maps, device="cpu")))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) float32 RGB from 0 to 255 -> scores (B, n) from 0 to 1 and boxes (B, n, 4) xyxy in pixels."""
        pixels = (pictures.flip(1) - self.preprocessor.mean) / self.preprocessor.std
        scores, sides = self.detector.bbox_head(self.detector.extract_feat(pixels))
        scores = torch.cat([level.flatten(2) for level in scores], dim=2)[:, 0].sigmoid()
        sides = torch.cat([level.flatten(2) for level in sides], dim=2).transpose(1, 2)
        return scores, torch.cat([self.points - sides[..., :2], self.points + sides[..., 2:]], dim=-1)


def export(work: Path, out: Path) -> None:
    """Write the averaged weights' network, weights stored in float16 and computed with in float32."""
    import onnx

    checkpoint = work / Path((work / "last_checkpoint").read_text(encoding="utf-8").strip()).name
    config = Config.fromfile(str(CONFIG))
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    detector = MODELS.build(config.model)
    # The runner's own file: it holds more than tensors.
    detector.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"])
    module = Boxes(detector.eval(), config.size)
    example = torch.zeros(1, 3, config.size, config.size)
    names = {"input_names": ["picture"], "output_names": ["scores", "boxes"]}
    torch.onnx.export(module, (example,), out, opset_version=OPSET, dynamo=False, **names)
    graph = onnx.load(out)
    halve(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, out)


def halve(model: Any) -> None:
    """Store a graph's large float32 weights in float16, each with a cast behind it."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < 16:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype("float16"), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


if __name__ == "__main__":
    main()
