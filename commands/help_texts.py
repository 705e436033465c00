"""Texts of `--help` that no function carries: which options belong together, and examples that run."""

from __future__ import annotations

GROUPS = {
    "Inputs": "inputs answers spec images boxes box_format add missing_boxes ground_truth questions split compare "
    "checkpoint llm clip convnext evaluate allow_absolute allow_remote max_pixels frames strict",
    "Output": "out full_pictures format stats shard_size visualize report append energon submission max_shard_size "
    "save_steps unordered overwrite wait allow_failures quiet as_json",
    "Model": "model detector tagger tag_list tag_thresholds vocabulary preset judge judge_url judge_rate judge_price "
    "judge_budget template fusion stage dtype quantize trust_checkpoint trust_config",
    "Scores": "benchmark metric by variant explain_variants only_answered samples trust_ids slices scorer show_list "
    "show_variants",
    "Answers": "task prompt prompts system max_new_tokens",
    "Training": "epochs max_steps learning_rate max_length trainer",
    "Speed": "batch_size device device_map tensor_parallel backend workers judge_workers cache deterministic "
    "accumulate devices gradient_checkpointing profile",
    "Many machines": "rank world_size engine ray_address num_actors gpus_per_actor cpus_per_actor ray_runtime_env",
}
"""Fields by group; what stands nowhere here is in the group that the option names itself."""
OF_COMMANDS = {("pack", "split"): "Shards", ("pack", "max_pixels"): "Pictures", ("train", "seed"): "Training"}
"""Fields that mean another thing in one command."""

EXAMPLES = {
    "import": (
        (
            "mgtool import --checkpoint parts/mg_llava.pth --llm parts/llm --clip parts/clip --convnext parts/convnext "
            "--template vicuna --out out/model"
        ),
        (
            "mgtool import --checkpoint parts/mg_llava.pth --llm parts/llm --clip parts/clip --convnext parts/convnext "
            "--out out/model --dry-run"
        ),
    ),
    "detect": (
        "mgtool detect examples/photos/images --out out/boxes --visualize 2",
        "mgtool detect --stats out/boxes --images examples/photos/images --report out/boxes.html",
    ),
    "pack": (
        (
            "mgtool pack examples/photos/conversations.json --images examples/photos/images --boxes out/boxes "
            "--out out/tars"
        ),
        "mgtool pack --verify out/tars",
    ),
    "infer": (
        (
            "mgtool infer out/scenes/test/questions.jsonl --images out/scenes/test/images --boxes out/scenes/found "
            "--model tiny --max-new-tokens 8 --out out/scenes/answers.jsonl"
        ),
        (
            "mgtool infer examples/photos/images --task caption --boxes out/boxes --model out/model --max-new-tokens 8 "
            "--out out/captions/answers.jsonl"
        ),
    ),
    "eval": (
        (
            "mgtool eval out/boxes --benchmark coco-detection --ground-truth examples/photos/instances.json "
            "--images examples/photos/images --out out/detection"
        ),
        (
            "mgtool eval out/own/answers.jsonl --benchmark custom "
            "--ground-truth examples/photos/conversations.json --metric contains,f1"
        ),
    ),
    "table": (
        "mgtool table examples/paper/tiny.toml --out out/table",
        "mgtool table examples/paper/tiny.toml --out out/table --format latex",
    ),
    "train": (
        (
            "mgtool train out/tars --model out/model --out out/aligned --stage align --max-steps 1 --batch-size 2 "
            "--dtype float32 --device cpu"
        ),
        "mgtool train out/tars --model out/model --out out/tuned --stage tune --dry-run",
    ),
    "env": ("mgtool env", "mgtool env --json"),
}
"""Two of each command; all of them stand in the README or a guide, whose commands are run."""
