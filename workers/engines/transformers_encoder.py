"""The default encoder: any classification or embedding model of the BERT family that transformers loads."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from workers.engine import Encoder, EncoderTask, EngineOptions
from workers.engines.encoder_process import EncoderProcess, LoadRequest
from workers.engines.encoding import EncodingEngine
from workers.engines.request_engine import HUNG_EXIT_CODE, KILLED_EXIT_CODE, end_process
from workers.tokenizer import RowTokenizer


def open_encoder(
    model_folder: Path, tokenizer: RowTokenizer, options: EngineOptions, task: EncoderTask
) -> Encoder:
    """Load a model from a local folder and start its engine; raises ConfigurationError or EngineLostError.

    On a CPU, the model computes in a separate process: in this one, each operation of a step would wait for
    the interpreter lock while a job's thread holds it. On a GPU, the model computes in this process, because
    an operation there only starts a kernel.
    """
    if options.device != "cpu":
        # torch is only loaded in the process that computes
        from workers.engines.encoder_model import TransformersEncoder

        executor = TransformersEncoder(model_folder, tokenizer.max_tokens, options, task)
        return EncodingEngine(executor, options)
    num_cores = options.num_threads or len(os.sched_getaffinity(0))
    request = LoadRequest(
        model_folder=model_folder,
        task=task,
        max_tokens=tokenizer.max_tokens,
        options=replace(options, on_broken=None),
    )
    on_broken = options.on_broken or (
        lambda: end_process(KILLED_EXIT_CODE if process.was_killed else HUNG_EXIT_CODE)
    )
    process = EncoderProcess(request, num_cores, on_lost=on_broken)
    return EncodingEngine(process, replace(options, on_broken=on_broken), num_lanes=num_cores)
