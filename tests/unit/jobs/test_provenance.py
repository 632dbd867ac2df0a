"""The statement: canonical JSON, exact numbers, the same bytes for the same facts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from jobs.inference import Constraint, ConstraintForm, FinishReason, Sampling, Usage
from jobs.job import job_seed
from jobs.kind import Parent, Template
from jobs.provenance import (
    MAX_PARENTS,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    CalibrationFacts,
    CodeFacts,
    EncoderFacts,
    Encoding,
    EngineFacts,
    Generation,
    JobFacts,
    ModelFacts,
    Provenance,
    Subject,
    payload_digest,
    sha256_hex,
    timestamp,
    token_digest,
)

INSTANT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]))


def generation(*, seed: int = 7, temperature: float = 0.7, stop: tuple[str, ...] = ()) -> Generation:
    return Generation(
        prompt_sha256=token_digest([1, 2]),
        output_sha256=token_digest([3]),
        sampling=Sampling(max_new_tokens=9, temperature=temperature, top_p=0.95, seed=seed, stop=stop),
        usage=Usage(10, 4, 5),
        finish_reason=FinishReason.LENGTH,
        num_near_ties=1,
    )


def provenance(
    *, custom_id: str = "line-1", generations: tuple[Generation, ...] = (generation(),)
) -> Provenance:
    return Provenance(
        subjects=(Subject("article.md", "a" * 64),),
        job=JobFacts(
            id=UUID(int=1),
            batch_id=UUID(int=2),
            custom_id=custom_id,
            kind="article",
            kind_version="1",
            attempt=2,
            celery_task_id="task",
            worker_id="worker",
            worker_device="cuda:1",
            queued_at=INSTANT,
            started_at=INSTANT,
            finished_at=INSTANT,
        ),
        input_sha256=payload_digest({"title": "t"}),
        template=Template("article", "1", "b" * 64),
        model=MODEL,
        engine=EngineFacts(
            name="transformers",
            versions=(("torch", "2"), ("transformers", "5")),
            dtype="float32",
            device="cpu",
            attention="sdpa",
            num_slots=8,
        ),
        generations=generations,
        code=CodeFacts("0.1.0", "f" * 40),
        models=(MODEL, encoding().model),
        encodings=(encoding(),),
        parents=(Parent("document", "news-1", "4" * 64),),
    )


MODEL = ModelFacts(
    name="m",
    source="s",
    revision="r",
    weights_sha256="c" * 64,
    tokenizer_sha256="d" * 64,
    chat_template_sha256="e" * 64,
)


def encoding() -> Encoding:
    return Encoding(
        task="classify",
        model=replace(MODEL, name="moods", chat_template_sha256=""),
        engine=EncoderFacts(
            name="encoder",
            versions=(("torch", "2"),),
            dtype="float32",
            device="cpu",
            attention="sdpa",
            max_batch_tokens=1024,
            max_tokens=96,
            classifier_sha256="1" * 64,
        ),
        num_calls=2,
        num_inputs=250,
        inputs_sha256="2" * 64,
        outputs_sha256="3" * 64,
    )


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@given(custom_id=texts, stop=texts, temperature=st.floats(0, 2), seed=st.integers(0, 2**53 - 1))
def test_the_bytes_are_the_canonical_form_of_what_they_parse_to(
    custom_id: str, stop: str, temperature: float, seed: int
) -> None:
    one = generation(seed=seed, temperature=temperature, stop=(stop,))
    body = provenance(custom_id=custom_id, generations=(one,)).canonical_bytes()
    parsed = json.loads(body)
    assert rfc8785.dumps(parsed) == body
    assert parsed["predicate"]["job"]["customId"] == custom_id
    sampling = parsed["predicate"]["generations"][0]["sampling"]
    assert (sampling["stop"], sampling["seed"]) == ([stop], seed)
    assert float(sampling["temperature"]) == temperature


def test_numbers_are_exact_in_every_reader() -> None:
    for leaf in leaves(json.loads(provenance().canonical_bytes())):
        assert not isinstance(leaf, float)
        if isinstance(leaf, int):
            assert abs(leaf) < 2**53


@given(st.integers(), texts)
def test_seeds_of_jobs_are_exact_in_json(seed: int, custom_id: str) -> None:
    assert 0 <= job_seed(seed, custom_id) < 2**53


def test_the_same_facts_make_the_same_bytes_and_others_do_not() -> None:
    assert provenance().canonical_bytes() == provenance().canonical_bytes()
    assert provenance().canonical_bytes() != provenance(custom_id="line-2").canonical_bytes()


def test_it_is_an_in_toto_statement() -> None:
    parsed = json.loads(provenance().canonical_bytes())
    assert list(parsed) == ["_type", "predicate", "predicateType", "subject"]
    assert (parsed["_type"], parsed["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
    assert parsed["subject"] == [{"name": "article.md", "digest": {"sha256": "a" * 64}}]


def test_usage_is_the_sum_of_all_calls() -> None:
    parsed = json.loads(provenance(generations=(generation(), generation())).canonical_bytes())
    assert parsed["predicate"]["usage"] == {"promptTokens": 20, "cachedTokens": 8, "newTokens": 10}


def test_a_job_without_a_model_says_so() -> None:
    bare = replace(provenance(generations=()), model=None, engine=None)
    predicate = json.loads(bare.canonical_bytes())["predicate"]
    assert (predicate["model"], predicate["engine"], predicate["generations"]) == (None, None, [])


def test_what_encoders_were_asked_stands_beside_the_generations() -> None:
    predicate = json.loads(provenance().canonical_bytes())["predicate"]
    (one,) = predicate["encodings"]
    assert (one["task"], one["model"], one["numInputs"], one["numCalls"]) == ("classify", "moods", 250, 2)
    assert (one["inputsSha256"], one["outputsSha256"]) == ("2" * 64, "3" * 64)
    assert one["engine"]["versions"] == {"torch": "2"}
    assert [model["name"] for model in predicate["models"]] == ["m", "moods"]
    assert predicate["model"]["name"] == "m"


def test_a_calibration_says_what_it_was_fitted_on_and_what_it_is_good_for() -> None:
    calibration = CalibrationFacts(
        sha256="6" * 64,
        file_name="labelled.csv",
        file_sha256="7" * 64,
        num_fitted=150,
        num_held_out=149,
        temperature="2.25",
        offsets=("0.0", "0.0", "0.5"),
        calibration_error=("0.2", "0.04"),
        log_loss=("1.1", "0.8"),
    )
    calibrated = replace(provenance(), encodings=(encoding(), replace(encoding(), calibration=calibration)))
    one, two = json.loads(calibrated.canonical_bytes())["predicate"]["encodings"]
    assert "calibration" not in one
    assert two["calibration"] == {
        "sha256": "6" * 64,
        "file": {"name": "labelled.csv", "sha256": "7" * 64},
        "numFitted": 150,
        "numHeldOut": 149,
        "temperature": "2.25",
        "offsets": ["0.0", "0.0", "0.5"],
        "calibrationError": {"uncalibrated": "0.2", "calibrated": "0.04"},
        "logLoss": {"uncalibrated": "1.1", "calibrated": "0.8"},
    }


def test_a_generation_names_its_model_where_it_is_another_than_the_statements() -> None:
    own, other = replace(generation(), model_name="m"), replace(generation(), model_name="n")
    predicate = json.loads(provenance(generations=(own, other)).canonical_bytes())["predicate"]
    assert [one.get("model") for one in predicate["generations"]] == [None, "n"]


def test_a_statement_without_a_template_says_so() -> None:
    predicate = json.loads(replace(provenance(), template=None).canonical_bytes())["predicate"]
    assert predicate["prompt"] is None


def test_lineage_lists_parents_up_to_a_bound_and_covers_all_of_them() -> None:
    parents = tuple(Parent("document", f"news-{n}", f"{n:064x}") for n in range(MAX_PARENTS + 5))

    def lineage(some: tuple[Parent, ...]) -> dict[str, object]:
        found: dict[str, object] = json.loads(replace(provenance(), parents=some).canonical_bytes())[
            "predicate"
        ]["lineage"]
        return found

    whole, shorter = lineage(parents), lineage(parents[:-1])
    assert whole["numParents"] == MAX_PARENTS + 5
    assert whole["parents"] == shorter["parents"]
    assert whole["parentsSha256"] != shorter["parentsSha256"]
    assert lineage(parents[:1])["parents"] == [{"role": "document", "name": "news-0", "sha256": "0" * 64}]


def test_a_number_that_json_readers_round_is_refused() -> None:
    with pytest.raises(rfc8785.IntegerDomainError):
        provenance(generations=(generation(seed=2**60),)).canonical_bytes()


@given(st.dictionaries(texts, texts | st.integers(-(2**53) + 1, 2**53 - 1) | st.none() | st.booleans()))
def test_a_payloads_digest_does_not_depend_on_the_order_of_its_keys(payload: dict[str, object]) -> None:
    assert payload_digest(payload) == payload_digest(dict(reversed(payload.items())))


def test_times_are_utc_whatever_the_zone_they_were_taken_in() -> None:
    elsewhere = INSTANT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert timestamp(elsewhere) == timestamp(INSTANT) == "2026-01-02T03:04:05.000678Z"


def sampling_of(sampling: Sampling, **changes: object) -> dict[str, object]:
    """What the statement says of one generation."""
    made = replace(generation(), sampling=sampling, **changes)  # type: ignore[arg-type]
    statement = json.loads(provenance(generations=(made,)).canonical_bytes())
    facts: dict[str, object] = statement["predicate"]["generations"][0]
    return facts


def test_rare_sampling_is_stated_only_where_it_is_not_the_default() -> None:
    plain = sampling_of(Sampling(max_new_tokens=9))
    assert set(plain) == {
        "promptSha256",
        "outputSha256",
        "sampling",
        "usage",
        "finishReason",
        "numNearTies",
    }
    common = {"maxNewTokens", "temperature", "topP", "topK", "repetitionPenalty", "seed", "stop"}
    assert set(plain["sampling"]) == common  # type: ignore[call-overload]
    constraint = Constraint(ConstraintForm.CHOICE, '["yes","no"]')
    full = sampling_of(
        Sampling(
            max_new_tokens=9,
            min_new_tokens=2,
            min_p=0.05,
            presence_penalty=-0.5,
            frequency_penalty=1.25,
            logit_bias=((7, -100.0), (3, 1.5)),
            num_logprobs=0,
            constraint=constraint,
        )
    )["sampling"]
    assert isinstance(full, dict)
    assert {name: value for name, value in full.items() if name not in common} == {
        "minNewTokens": 2,
        "minP": "0.05",
        "presencePenalty": "-0.5",
        "frequencyPenalty": "1.25",
        "logitBias": [[7, "-100.0"], [3, "1.5"]],
        "numLogprobs": 0,
        "constraint": {"form": "choice", "sha256": sha256_hex(constraint.source.encode())},
    }


def test_template_arguments_and_raw_prompts_are_stated() -> None:
    arguments = (("enable_thinking", True), ("style", "brief"), ("depth", 2), ("weight", 0.5))
    facts = sampling_of(Sampling(max_new_tokens=9), template_arguments=arguments)
    assert facts["templateArguments"] == {
        "enable_thinking": True,
        "style": "brief",
        "depth": 2,
        "weight": "0.5",
    }
    assert sampling_of(Sampling(max_new_tokens=9), is_raw=True)["isRaw"] is True
