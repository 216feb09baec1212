"""Joins explanations with the predictions that they explain, so that each result is stored once."""

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence

from gateway.history import MAX_LIMIT, Details, History, Query, Result, is_explanation_of


async def join(
    history: History, results: Sequence[Result], details: Mapping[str, Details], joined: MutableMapping[str, str]
) -> None:
    """Store explanations with their predictions, and add the ids of both to `joined`.

    Of several equal predictions, the newest one without a heat map is chosen, else the newest one.
    """
    for result in results:
        predictions = await _predictions(history, result)
        chosen = min(predictions, key=lambda prediction: prediction.explained, default=None)
        if chosen is not None and await history.explain(chosen.id, details.get(result.id)):
            joined[result.id] = chosen.id


async def separate(history: History) -> AsyncIterator[Result]:
    """Yield the explanations that are stored apart from predictions."""
    query = Query(explain=True, limit=MAX_LIMIT)
    cursor: str | None = ""
    while cursor is not None:
        page = await history.find(query.model_copy(update={"cursor": cursor or None}))
        for result in page.results:
            if result.verb == "explanations":
                yield result
        cursor = page.next


async def join_certain(history: History, explanation: Result) -> bool:
    """Store an explanation with its prediction, if exactly one is possible; return whether it is stored there."""
    predictions = await _predictions(history, explanation)
    if len(predictions) != 1:
        return False
    return await history.explain(predictions[0].id, await history.details(explanation.id))


async def _predictions(history: History, explanation: Result) -> list[Result]:
    """Return the newest predictions that an explanation may explain."""
    query = Query(client=explanation.client, model=explanation.model, image=explanation.image_sha256, limit=MAX_LIMIT)
    page = await history.find(query)
    return [item for item in page.results if item.verb == "predictions" and is_explanation_of(explanation, item)]
