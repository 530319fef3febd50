"""The files that leaderboards take, from predictions in the order of their list."""

import json
from pathlib import PurePosixPath
from typing import List, NamedTuple, Sequence, Tuple

from .dumps import DumpError, Predictions

ACTIONS = 100  # that EPIC-Kitchens takes of a video
PROBABLE = 5  # that Something-Something V2 takes


class Leaderboard(NamedTuple):
    """What a server takes."""

    num_classes: Tuple[int, ...]  # of EPIC-Kitchens: verbs, nouns
    file_name: str


LEADERBOARDS = dict(
    sthv1=Leaderboard((174,), 'submission.csv'),
    sthv2=Leaderboard((174,), 'submission.csv'),
    jester=Leaderboard((27,), 'submission.csv'),
    epic=Leaderboard((97, 300), 'submission.json'),
)


def submission(
    leaderboard: str, predictions: Sequence[Predictions], labels: Sequence[str] = ()
) -> str:
    """The text of a leaderboard's file.

    Args:
        leaderboard (str): Of :data:`LEADERBOARDS`.
        predictions (Sequence[Predictions]): Of the official test list; of
            EPIC-Kitchens those of verbs and of nouns.
        labels (Sequence[str]): The names of the classes, by their numbers, where
            the file has names.

    Raises:
        DumpError: If there are not as many names as classes.
    """
    if leaderboard == 'epic':
        verbs, nouns = predictions
        return epic_kitchens(verbs, nouns)
    (only,) = predictions
    return something_v2(only) if leaderboard == 'sthv2' else something_v1(only, labels)


def check_classes(leaderboard: str, num_classes: Sequence[Sequence[int]]) -> None:
    """Compare numbers of classes with those of a leaderboard.

    Args:
        leaderboard (str): Of :data:`LEADERBOARDS`.
        num_classes (Sequence[Sequence[int]]): Of the models; of EPIC-Kitchens of
            those of verbs and of those of nouns.

    Raises:
        DumpError: If one is another.
    """
    for group, expected in zip(num_classes, LEADERBOARDS[leaderboard].num_classes):
        for found in group:
            if found != expected:
                raise DumpError(
                    f'{leaderboard}: expected models of {expected} classes, got '
                    f'{found}. Choose the configs of this dataset.'
                )


def check_submission(
    leaderboard: str, text: str, names: Sequence[str], labels: Sequence[str] = ()
) -> None:
    """Read a leaderboard's file as the server does.

    Args:
        leaderboard (str): Of :data:`LEADERBOARDS`.
        text (str): What the file has.
        names (Sequence[str]): The videos of the official test list.
        labels (Sequence[str]): The names of the classes, where the file has names.

    Raises:
        DumpError: If the server would refuse it.
    """
    if leaderboard == 'epic':
        found = _check_epic(text)
    else:
        rows = [line.split(';') for line in text.splitlines()]
        found = [row[0] for row in rows]
        for row in rows:
            if leaderboard == 'sthv2':
                _check_classes(row[1:], leaderboard)
            elif len(row) != 2 or row[1] not in labels:
                raise DumpError(
                    f'{leaderboard}: expected lines of "id;name of a class", got '
                    f'{";".join(row)!r}.'
                )
    expected = _videos(names)
    if sorted(found) != sorted(expected) or len(set(found)) != len(found):
        raise DumpError(
            f'{leaderboard}: expected each of {len(expected)} videos once, got '
            f'{len(found)} lines of {len(set(found))} videos.'
        )


def _check_classes(cells: Sequence[str], leaderboard: str) -> None:
    (num_classes,) = LEADERBOARDS[leaderboard].num_classes
    valid = {str(k) for k in range(num_classes)}
    if len(cells) != PROBABLE or len(set(cells)) != PROBABLE or not valid >= set(cells):
        raise DumpError(
            f'{leaderboard}: expected {PROBABLE} different classes from 0 to '
            f'{num_classes - 1} of each video, got {";".join(cells)!r}.'
        )


def _check_epic(text: str) -> List[str]:
    results = json.loads(text)['results']
    verbs, nouns = (
        {str(k) for k in range(n)} for n in LEADERBOARDS['epic'].num_classes
    )
    pairs = {f'{verb},{noun}' for verb in verbs for noun in nouns}
    for video, scores in results.items():
        if (
            scores['verb'].keys() != verbs
            or scores['noun'].keys() != nouns
            or len(scores['action']) != ACTIONS
            or not pairs >= scores['action'].keys()
        ):
            found = {kind: len(scores[kind]) for kind in ('verb', 'noun', 'action')}
            raise DumpError(
                f'epic: expected scores of {len(verbs)} verbs and {len(nouns)} nouns '
                f'by their numbers, and of {ACTIONS} actions by "verb,noun", got '
                f'others of {video}: {found}.'
            )
    return list(results)


def something_v1(predictions: Predictions, labels: Sequence[str]) -> str:
    """Something-Something V1 and Jester: ``id;label text`` per line.

    Args:
        predictions (Predictions): Of the official test list.
        labels (Sequence[str]): The names of the classes, by their numbers.

    Raises:
        DumpError: If there are not as many names as classes.
    """
    if predictions.scores.shape[1] != len(labels):
        raise DumpError(
            f'expected names of {predictions.scores.shape[1]} classes, as the dumps '
            f'have, got {len(labels)}. Give the --labels of this dataset.'
        )
    best = predictions.scores.argmax(1).tolist()
    return ''.join(
        f'{video};{labels[k]}\n' for video, k in zip(_videos(predictions.names), best)
    )


def something_v2(predictions: Predictions) -> str:
    """Something-Something V2: ``id;p1;p2;p3;p4;p5``, the five most probable.

    Args:
        predictions (Predictions): Of the official test list.
    """
    scores = predictions.scores
    best = scores.topk(min(PROBABLE, scores.shape[1])).indices.tolist()
    return ''.join(
        f'{video};{";".join(map(str, k))}\n'
        for video, k in zip(_videos(predictions.names), best)
    )


def epic_kitchens(verbs: Predictions, nouns: Predictions) -> str:
    """The JSON of EPIC-Kitchens' action recognition.

    An action is as probable as its verb times its noun.

    Args:
        verbs (Predictions): Of the official test list.
        nouns (Predictions): The same for nouns.
    """
    results = {}
    for video, verb, noun in zip(_videos(verbs.names), verbs.scores, nouns.scores):
        # [verbs, nouns]
        actions = verb[:, None] * noun
        best = actions.flatten().topk(min(ACTIONS, actions.numel()))
        results[video] = dict(
            verb=dict(enumerate(verb.tolist())),
            noun=dict(enumerate(noun.tolist())),
            action={
                f'{k // len(noun)},{k % len(noun)}': p
                for p, k in zip(best.values.tolist(), best.indices.tolist())
            },
        )
    # Supervision levels: pretraining, labels and data of this challenge
    levels = dict(sls_pt=2, sls_tl=3, sls_td=3)
    head = dict(version='0.2', challenge='action_recognition', **levels)
    return json.dumps(dict(head, results=results)) + '\n'


def _videos(names: Sequence[str]) -> List[str]:
    return [PurePosixPath(name).stem for name in names]
