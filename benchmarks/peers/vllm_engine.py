"""A vLLM engine behind standard streams; run by the Python of an environment with vLLM.

    python vllm_engine.py MODEL

Reads lines ``{"prompts": [[ids]], "answers": [yes, no]}`` and writes ``{"scores": […]}``, the
log-odds of yes; or ``{"prompts": …, "new_tokens": n}`` and writes ``{"texts": [[ids]]}``.
"""

import json
import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB; by itself it takes all there is

from vllm import LLM, SamplingParams

TOP = 1000
"""Log-probabilities asked for: yes and no must be among them."""


def scores(llm: LLM, prompts: list[list[int]], answers: list[int]) -> list[float]:
    """Read the log-odds of yes from the log-probabilities of the next token."""
    parameters = SamplingParams(max_tokens=1, temperature=0, logprobs=TOP, detokenize=False)
    asked = [{"prompt_token_ids": ids} for ids in prompts]
    outputs = llm.generate(asked, parameters, use_tqdm=False)
    yes, no = answers
    found = [output.outputs[0].logprobs[0] for output in outputs]
    return [each[yes].logprob - each[no].logprob for each in found]


def texts(llm: LLM, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    """Write greedily; give the new ids."""
    parameters = SamplingParams(max_tokens=new_tokens, temperature=0, detokenize=False)
    asked = [{"prompt_token_ids": ids} for ids in prompts]
    outputs = llm.generate(asked, parameters, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def main() -> None:
    """Answer line by line until the input ends."""
    llm = LLM(
        sys.argv[1],
        dtype="float32",
        max_model_len=2048,
        enable_prefix_caching=True,
        max_logprobs=TOP,
        disable_log_stats=True,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        llm.reset_prefix_cache()
        if "answers" in asked:
            answer = {"scores": scores(llm, asked["prompts"], asked["answers"])}
        else:
            answer = {"texts": texts(llm, asked["prompts"], asked["new_tokens"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
