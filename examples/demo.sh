#!/usr/bin/env bash
# Detect -> pack -> infer -> eval, twice: composed scenes with models that see them, then photographs. Usage: demo.sh [OUT]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-demo-out}
scenes=$out/scenes/test photos=$here/photos
export TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false

step() { printf '\n\033[1m$ mgtool %s\033[0m\n' "$1"; }
ask() { # QUESTIONS OPTIONS...
  mgtool infer "$scenes/$1.jsonl" --images "$scenes/images" --boxes "$out/boxes" --model tiny \
    --out "$out/answers/$1/answers.jsonl" "${@:2}"
}
score() { # QUESTIONS BENCHMARK TRUTH...
  mgtool eval "$out/answers/$1/answers.jsonl" --benchmark "$2" --images "$scenes/images" --boxes "$out/boxes" \
    --out "$out/scores/$2" --ground-truth "${@:3}"
}

python3 "$here/scenes/make.py" scenes "$out/scenes" --split test --count 100
step "detect: --detector tiny finds what stands out in 100 scenes it has never seen"
mgtool detect "$scenes/images" --detector tiny --out "$out/boxes" --visualize 8
step "pack: scenes, boxes and conversations as WebDataset tars"
mgtool pack "$scenes/conversations.json" --images "$scenes/images" --boxes "$out/boxes" --out "$out/tars"
step "infer: --model tiny answers whether something is there"
ask pope_questions --max-new-tokens 4
step "infer: and how many, where, what colour, what is left of it, what is that small thing"
ask questions --max-new-tokens 8
step "eval: existence as POPE scores it"
score pope_questions pope "$scenes/pope_random.jsonl" "$scenes/pope_adversarial.jsonl"
step "eval: all others as GQA scores them"
score questions gqa "$scenes/answers.json"
step "infer: captions from the packed tars"
mgtool infer "$out/tars" --task caption --prompt "Describe the picture." --model tiny --max-new-tokens 96 \
  --out "$out/answers/captions/answers.jsonl"

step "detect: --detector nanodet finds everyday objects in eight photographs"
mgtool detect "$photos/images" --out "$out/photos/boxes" --visualize 8
step "eval: its boxes against boxes drawn by hand"
mgtool eval "$out/photos/boxes" --benchmark coco-detection --ground-truth "$photos/instances.json" \
  --images "$photos/images" --out "$out/scores/photos"

printf '\n'
python3 - "$out" <<'EOF'
import json, sys
out = sys.argv[1]
def read(name):
    return json.load(open(f"{out}/scores/{name}/scores.json"))
others = read("gqa")["breakdown"]["semantic"]
print(f"Existence F1 {read('pope')['metrics']['f1']['value']:.1f};",
      ", ".join(f"{name} {score['value']:.0f} %" for name, score in others.items()) + ".")
print(f"Photographs: AP {read('photos')['metrics']['AP']['value']:.1f}.")
EOF
echo "Reports: $out/scores/{pope,gqa,photos}/report.html; boxes drawn: $out/boxes/visualized/, $out/photos/boxes/visualized/"
