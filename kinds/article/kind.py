"""The article kind, which turns a brief into Markdown with a title."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from jobs.errors import PermanentError
from jobs.guards import INJECTION_SUSPECTED, is_injection_suspected
from jobs.inference import Prompt, RequestSize, Sampling
from jobs.kind import Artifact, Context, Kind, Result, Stage
from jobs.shown import inline_markdown, json_text
from jobs.text.language import detect_language
from jobs.text.prose import MAX_REPETITION, is_within_length, relative_length_error, seq_rep_n, words
from kinds.article.brief import ArticleBrief, ArticleSettings
from kinds.article.draft import Draft, first_request_size
from workers.settings import DEFAULT_MODEL

HTML_SANITISED = "html_sanitised"


class ArticleEmptyError(PermanentError):
    """The model wrote nothing usable; the same seed would produce the same text again."""

    code = "article_empty"


class ArticleKind(Kind[ArticleBrief]):
    """Writes an article for each brief."""

    name = "article"
    version = "1"
    stages = (Stage("write"),)
    payload_type = ArticleBrief
    settings_type = ArticleSettings
    default_model = DEFAULT_MODEL
    describer = "kinds.article.describer:ArticleDescriber"
    exporter = "kinds.article.export:export_articles"

    def first_request(self, payload: ArticleBrief, settings: BaseModel) -> tuple[Prompt, Sampling]:
        """Return the job's first request, but with seed 0, so that intake can check its length."""
        own = ArticleSettings.model_validate(settings, from_attributes=True)
        draft = Draft(payload, own.load())
        return draft.next_prompt(), draft.next_sampling(own, seed=0)

    def first_request_size(self, payload: ArticleBrief, settings: BaseModel) -> RequestSize | None:
        """Return an upper bound of the first request's size; None if the batch has its own template."""
        own = ArticleSettings.model_validate(settings, from_attributes=True)
        return None if own.template_source is not None else first_request_size(payload, own.load())

    def run(self, payload: ArticleBrief, context: Context) -> Result:
        """Request paragraphs until the requested length is reached.

        Raises ArticleEmptyError, TemplateError, and the errors of generate().
        """
        settings = ArticleSettings.model_validate(context.settings)
        draft = Draft(payload, settings.load())
        while not draft.is_finished():
            sampling = draft.next_sampling(settings, context.seed)
            draft.add(context.inference.generate(draft.next_prompt(), sampling))
        body = draft.markdown()
        if not body:
            raise ArticleEmptyError(
                f"none of the model's {draft.num_turns} answers contains usable text: change the topic or "
                "the sampling"
            )
        title = payload.title or draft.heading() or payload.subject[0].upper() + payload.subject[1:]
        metrics = _metrics(payload, draft, title, body)
        text = _front_matter(payload, context.custom_id, metrics) + f"# {inline_markdown(title)}\n\n{body}\n"
        artifact = Artifact(name="article.md", media_type="text/markdown", body=text.encode())
        return Result(artifacts=(artifact,), template=draft.template.identity, metrics=metrics)


def _metrics(brief: ArticleBrief, draft: Draft, title: str, body: str) -> dict[str, object]:
    tokens = words(body)
    flags = [INJECTION_SUSPECTED] if any(map(is_injection_suspected, brief.texts())) else []
    if any(piece.is_html_sanitised for piece in draft.pieces):
        flags.append(HTML_SANITISED)
    repetition = seq_rep_n(tokens)
    return {
        "title": title,
        "requested_words": brief.length,
        "num_words": len(tokens),
        "length_error": round(relative_length_error(len(tokens), brief.length), 4),
        "is_within_length": is_within_length(len(tokens), brief.length),
        "repetition": round(repetition, 4),
        "is_within_repetition": repetition <= MAX_REPETITION,
        "requested_language": brief.language,
        "detected_language": detect_language(body),
        "finish_reason": draft.finish_reason.value if draft.finish_reason else None,
        "was_truncated": draft.pieces[-1].cut_sentence is not None,
        "num_truncated": sum(piece.cut_sentence is not None for piece in draft.pieces),
        "num_sentences_removed": draft.kept()[1] + sum(piece.num_noise for piece in draft.pieces),
        "num_turns": draft.num_turns,
        "num_off_topic": draft.num_off_topic,
        "flags": flags,
    }


def _front_matter(brief: ArticleBrief, custom_id: str, metrics: Mapping[str, object]) -> str:
    """Return the front matter as YAML; its values are written as JSON, of which YAML 1.2 is a superset."""
    fields = {"title": metrics["title"], "id": custom_id, "keywords": list(brief.keywords)}
    fields |= {
        name: metrics[name]
        for name in ("requested_language", "detected_language", "requested_words", "num_words")
    }
    lines = [f"{name}: {json_text(value)}\n" for name, value in fields.items()]
    return f"---\n{''.join(lines)}---\n\n"
