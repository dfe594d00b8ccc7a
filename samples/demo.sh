#!/usr/bin/env bash
# The demo: all stages on samples/news with a real small language model, and recommendations.
#
#   bash samples/demo.sh MODEL [RUN]
#
# MODEL is a folder or a Hugging Face name. Every step is an ordinary trec command, shown
# before it runs; the same command again continues or reuses what is there.
set -euo pipefail
model=${1:?usage: bash samples/demo.sh MODEL [RUN]}
run=${2:-demo-run}
news=$(dirname "$0")/news

show() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

echo "prepare -> summarize -> train -> score -> eval, and recommend. Model: $model"

show trec prepare "$news" --out "$run" --min-history 5 --max-history 15 --long keep-last \
  --train-users 36 --valid-users 4 --test-users 24 --predict
show trec summarize "$run" --mode hier --model "$model" --max-new-tokens 40 \
  --split train --split valid --split test
show trec train "$run" --mode hier --model "$model" --epochs 1 --negatives-per-positive 4 \
  --users-per-step 1 --learning-rate 1e-3
show trec score "$run" --mode hier --zero-shot --model "$model"
show trec score "$run" --mode hier --model "$model"
show trec score "$run" --mode none --zero-shot --ask text --attributes title --recent 10 --model "$model"
show trec score "$run" --scorer popularity
show trec score "$run" --scorer bm25
show trec score "$run" --scorer random
show trec score "$run" --scorer blend
show trec score "$run" --scorer blend --embedder "$model" --name blend-llm
show trec recommend "$run"
show trec eval "$run"

cat <<TEXT

What you just saw
  1. prepare    read click histories and built questions: which of 21 articles comes next?
  2. summarize  a frozen language model wrote each user's preference summary, block by block.
  3. train      the same model learnt, through a LoRA adapter, to say yes or no to a candidate.
  4. score      every candidate got its log-odds of yes: untrained (hier-zeroshot), trained (hier);
                how much likelier the history makes its title, untrained (none-text-zeroshot);
                scores of baselines that need no language model, and of all cheap signals in one
                (blend). blend-llm has the same language model read every item once: its vectors
                are signals, and what three small sequence models learn from.
  5. recommend  every user's ten best of the whole catalogue, by the blend of all cheap signals.
  6. eval       Recall, MRR and NDCG with 95 % intervals. The samples are invented and small: the
                table shows that the machinery works, not how good the method is. Thirty-six
                training steps teach this model little more than how often the answer is yes; as
                a reader of items it stands above every single baseline.

What to look at
  $run/summaries-hier.jsonl   the summaries, with every intermediate one
  $run/scores-hier.jsonl      one score per candidate
  $run/recommendations-catalogue.jsonl   ten items a user, with the reason for each
  $run/report.html            the same results as a page; open it in a browser
  $run/*.manifest.json        what made each file

What to run next
  trec summarize $run --mode recurrent --model $model      (the other way to summarise)
  trec score $run --mode hier --dry-run --model $model     (the exact prompt and its tokens)
  trec prepare --help                                      (your own data: docs/prepare.md)
TEXT
