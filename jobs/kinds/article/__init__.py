"""The article kind: what a brief is, how an article is drafted, and what the rest of Pressroom sees of it."""

from __future__ import annotations

from jobs.kinds.article.brief import ArticleBrief, ArticleSettings
from jobs.kinds.article.kind import ArticleEmptyError, ArticleKind

__all__ = ["ArticleBrief", "ArticleEmptyError", "ArticleKind", "ArticleSettings"]
