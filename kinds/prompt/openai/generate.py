"""Runs a line that requests texts."""

from __future__ import annotations

import json

from jobs.inference import Inference, Prompt, RawPrompt, Sampling
from jobs.kind import Artifact, Result
from kinds.prompt.openai.lines import CHAT, LineRequest
from kinds.prompt.openai.responses import chat_response, completion_response
from kinds.prompt.payload import PromptOutput

RESPONSE_FILE = "response.json"


def longest_request(line: LineRequest, *, max_new_tokens: int) -> tuple[Prompt | RawPrompt, Sampling]:
    """Return the request of a line's longest prompt, so that intake can compare it with the context."""
    body = line.text_body()
    sampling = body.sampling(0, max_new_tokens=max_new_tokens, seed=0)
    return max(body.prompts, key=_num_characters), sampling


def _num_characters(prompt: Prompt | RawPrompt) -> int:
    if isinstance(prompt, RawPrompt):
        return len(prompt.text)
    return sum(len(message.content) for message in prompt.messages)


def run_line(line: LineRequest, inference: Inference, *, max_new_tokens: int, seed: int) -> Result:
    """Generate the texts of a line, one after the other. Raises the errors of `Inference.generate`.

    `max_new_tokens` and `seed` hold if the line has none of its own.
    """
    body = line.text_body()
    prompts = [prompt for prompt in body.prompts for _ in range(body.n)]
    completions = [
        inference.generate(
            prompt, body.sampling(number, max_new_tokens=max_new_tokens, seed=seed), model=line.model
        )
        for number, prompt in enumerate(prompts)
    ]
    if line.url == CHAT:
        response = chat_response(line.model, completions)
    else:
        response = completion_response(line.model, completions, n=body.n)
    artifact = json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()
    return Result(
        artifacts=(Artifact(name=RESPONSE_FILE, media_type="application/json", body=artifact),),
        metrics={"num_texts": len(completions), **({} if body.user is None else {"user": body.user})},
        output=PromptOutput(finish_reasons=tuple(each.finish_reason for each in completions)),
    )
