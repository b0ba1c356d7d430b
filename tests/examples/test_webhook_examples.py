"""The examples of webhooks: each prints what its first lines say.

Workflows print beside the program. A line of one may begin before that of the other has its end, so phrases count here.
"""

from tests.examples.test_examples import run


def assert_said(text: str, *phrases: str) -> None:
    """Each of them once, in this order."""
    assert [text.count(phrase) for phrase in phrases] == [1] * len(phrases), text
    places = [text.index(phrase) for phrase in phrases]
    assert places == sorted(places), text


def test_payments_in_fastapi_are_booked_once_and_forged_ones_are_not() -> None:
    said = run("stripe_in_fastapi")
    assert_said(
        said,
        "first: 200 accepted",
        "again: 200 duplicate",
        "another kind: 200 ignored",
        "forged: 401",
        "ledger: {'evt_1': 500}",
    )
    assert_said(said, "booked 500 for evt_1")
    assert said.count("booked") == 1


def test_pushes_are_built_once_and_in_their_order() -> None:
    said = run("github_alone")
    assert_said(
        said,
        "push 1: 200 accepted",
        "push 2: 200 accepted",
        "star: 200 ignored",
        "replayed under another id: duplicate",
    )
    assert_said(said, "built shop at c1", "built shop at c2")
    assert said.count("built") == 2


def test_slack_gets_its_challenge_back_and_its_retries_start_nothing() -> None:
    said = run("slack_challenge")
    assert_said(said, "challenge: 200 3eZbrw1a", "message: accepted", "retry: duplicate", "forged: 401")
    assert_said(said, "summary: HELLO")
    assert said.count("summary") == 1


def test_tenants_have_secrets_of_their_own() -> None:
    said = run("many_tenants")
    assert_said(
        said,
        "acme with acme-old: 200",
        "globex with globex-secret: 200",
        "acme with globex-secret: 401",
        "nobody: 401",
        "secrets that were used: acme 2029, globex",
    )
    filed = [f"filed {order} of {tenant}" for tenant in ("acme", "globex") for order in ("o-1", "o-2")]
    assert [said.count(one) for one in filed] == [1] * 4, said
    assert said.count("filed") == 4
