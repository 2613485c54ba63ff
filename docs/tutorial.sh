#!/usr/bin/env bash
# From 200 captioned pictures to a model that reads sentences about two of them, in minutes on two cores.
#   bash docs/tutorial.sh                  pictures of the demo's world, with the base model of `make train`
#   bash docs/tutorial.sh FOLDER           your own: FOLDER/captions.csv (columns image, caption) and FOLDER/images
# WORK is the folder of everything that is written, CLIP and PRETRAINED name another model.
set -euo pipefail
work=${WORK:-runs/tutorial}

if [ $# -eq 0 ]; then
  # 1. Pictures. The demo's world draws 200 of them and writes five captions of each.
  pcclip-data shapes --output "$work/world" --train 200 --val 0 --test 50 --per_class 0
  input=(--source jsonl --input "$work/world/train/captions.jsonl" --images null)
  photos="$work/world/test/images" clip=${CLIP:-local-dir:runs/demo/base} pretrained=${PRETRAINED:-null}
  attribute=position rate=3.0e-4
else
  input=(--source csv --input "$1/captions.csv" --images "$1/images")
  photos="$1/images" clip=${CLIP:-ViT-B-32} pretrained=${PRETRAINED:-openai}
  attribute=light rate=1.0e-5
fi

# 2. Differences. `compose` joins two captions by templates. With a language model: --model NAME --base_url URL instead.
pcclip-data all --config conf/data/mine.yaml "${input[@]}" --root "$work/data" --clip "$clip" --pretrained "$pretrained" \
  --backend compose

# 3. Training, and the evaluation on groups that were kept for it: $work/results.md
pcclip fit --config conf/mine.yaml --run "$work" --overwrite true --model.clip.name "$clip" --model.clip.pretrained "$pretrained" \
  --data.train "[$work/data/embedded/train]" --data.val "[$work/data/embedded/val]" --model.optimizer.init_args.lr "$rate"

# 4. Look: one page with all results, and the pictures ranked before and after.
pcclip report "$work" --output "$work/report.html" --overwrite true
pcclip rank "$photos" --attribute "$attribute" --model "${clip#local-dir:}" --pretrained "$pretrained" \
  --output "$work/before.csv" --overwrite true
pcclip rank "$photos" --attribute "$attribute" --model "$work/finetuned" --output "$work/after.csv" --overwrite true
echo "Look at $work/data/pairs.html, $work/report.html, $work/before.png and $work/after.png"
