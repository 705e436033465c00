"""transformers' own tests of models and processors, run on this model where their sources are given.

`make test-transformers SOURCE=DIR`: DIR holds the repository of transformers, or its source archive, at the installed
release. The archive lacks the tests of generation and those of LLaVA; both run with a repository, LLaVA's as what is to
be expected of a model of its kind: what it passes is passed here, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
import unittest
from pathlib import Path

import pytest
import torch
from tiny_models import KIT, tiny_config
from transformers import AutoTokenizer
from transformers.models.auto import modeling_auto

from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

SOURCE = os.environ.get("MGTOOL_TRANSFORMERS_SOURCE", "")
PACKAGE = "transformers_own_tests"
BATCH, WORDS, BOXES, PLACE = 3, 7, 1, 5
MISSING = {
    "exporters.test_export": "ExportTesterMixin",
    "generation.test_utils": "GenerationTesterMixin",
    "fetch_hub_objects_for_ci": "",
}
"""Modules that an archive lacks, and the mixin that is looked for in each."""

if not SOURCE:
    pytest.skip("MGTOOL_TRANSFORMERS_SOURCE names no sources of transformers", allow_module_level=True)


def load(name):
    """A module of transformers' tests, under a package name of its own: this project has `tests`, too."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def stand_in(name, mixin):
    """An empty mixin where the sources have none."""
    module = types.ModuleType(name)
    module.url_to_local_path = lambda url: url
    if mixin:
        setattr(module, mixin, type(mixin, (), {}))
    sys.modules[name] = module


def open_sources():
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(Path(SOURCE) / "tests")]
    sys.modules[PACKAGE] = package
    for name, mixin in MISSING.items():
        if not mixin and not (Path(SOURCE) / "utils" / f"{name}.py").is_file():
            stand_in(name, mixin)
        elif mixin and not (Path(SOURCE) / "tests" / f"{name.replace('.', '/')}.py").is_file():
            stand_in(f"{PACKAGE}.{name.split('.')[0]}", "")
            sys.modules[f"{PACKAGE}.{name.split('.')[0]}"].__path__ = []
            stand_in(f"{PACKAGE}.{name}", mixin)
        elif mixin and name != "generation.test_utils":
            name_from_the_root(name)


def name_from_the_root(name):
    """Sources import a module of theirs by `tests`, which is this project's own here."""
    found = load(name)
    sys.modules.setdefault("tests", types.ModuleType("tests"))
    sys.modules[f"tests.{name.split('.')[0]}"] = sys.modules[f"{PACKAGE}.{name.split('.')[0]}"]
    sys.modules[f"tests.{name}"] = found


open_sources()
modeling = load("test_modeling_common")
if (Path(SOURCE) / "tests/models/llava").is_dir():
    LlavaTest = load("models.llava.test_modeling_llava").LlavaForConditionalGenerationModelTest
    LlavaProcessorTest = load("models.llava.test_processing_llava").LlavaProcessorTest
GenerationTesterMixin = load("generation.test_utils").GenerationTesterMixin
ProcessorTesterMixin = load("test_processing_common").ProcessorTesterMixin
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["mg_llava"] = MGLlavaForConditionalGeneration.__name__


class Tester:
    """Sizes and a batch of the tiny model: one picture with one box in each sample."""

    def __init__(self, *, is_shown=True):
        config, self.is_shown = self.get_config(), is_shown
        self.batch_size, self.is_training = BATCH, True
        self.seq_length = self.encoder_seq_length = WORDS + config.vision_tokens + BOXES
        self.num_hidden_layers = config.text_config.num_hidden_layers
        self.hidden_size = config.text_config.hidden_size
        self.num_attention_heads = config.text_config.num_attention_heads
        self.vocab_size = config.text_config.vocab_size

    def get_config(self):
        config = tiny_config(image_token_id=PLACE)
        config.text_config.pad_token_id = 0
        return config

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        ids = modeling.ids_tensor([BATCH, self.seq_length], self.vocab_size - PLACE - 1) + PLACE + 1
        text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if not self.is_shown:
            return config, text
        ids[:, : self.seq_length - WORDS] = PLACE
        return config, {
            **text,
            "pixel_values": modeling.floats_tensor([BATCH, 3, config.image_size, config.image_size]),
            "boxes": torch.tensor([[3.0, 4.0, 50.0, 60.0]]).repeat(BATCH, 1),
            "box_counts": torch.full((BATCH,), BOXES),
        }


class ModelTest(modeling.ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    """What LLaVA's own class passes, but for what is skipped here and below, each with its reason.

    Whole graphs, and with them static caches and masks of four dimensions, are skipped by the sources themselves:
    pictures have different numbers of boxes, so that the places of their tokens are found by looking at the ids.
    """

    all_model_classes = (MGLlavaForConditionalGeneration,)
    _is_composite = True
    test_all_params_have_gradient = False  # the towers' last layers feed nothing, as published

    def setUp(self):
        # its batches have no pictures, and ids that show some are refused
        self.model_tester = Tester(is_shown="eager_matches_sdpa" not in self._testMethodName)

    def _image_features_prepare_config_and_inputs(self):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        config.vision_config = config.low_config
        return config, {name: inputs[name] for name in ("pixel_values", "boxes", "box_counts")}

    def _image_features_get_expected_num_hidden_states(self, model_tester=None):
        return self.model_tester.get_config().low_config.num_hidden_layers + 1

    def _image_features_get_expected_num_attentions(self, model_tester=None):
        return self.model_tester.get_config().low_config.num_hidden_layers

    @unittest.skip("two towers stand beside a whole causal language model, under the published names of its weights")
    def test_model_base_model_prefix(self):
        pass

    @unittest.skip("a folder whose weights are not all there is refused")
    def test_model_weights_reload_no_missing_tied_weights(self):
        pass

    @unittest.skip("weights that are missing are refused, and timm begins its tower by rules of its own")
    def test_can_init_all_missing_weights(self):
        pass


class ProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = MGLlavaProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return AutoTokenizer.from_pretrained(KIT / "llm")

    @staticmethod
    def prepare_processor_dict():
        return {"image_size": 96, "vision_tokens": 9, "image_token_id": PLACE}

    @unittest.skip("pictures are normalised by the processor itself, which has no image processor beside it")
    def test_init_arguments_not_in_processor_kwargs(self):
        pass

    @unittest.skip("a prompt begins with BOS, whatever the tokenizer does by itself")
    def test_subprocessor_defaults_0_text(self):
        pass
