"""The examples of webhooks: each prints what its first lines say."""

from tests.examples.test_examples import run


def test_payments_in_fastapi_are_booked_once_and_forged_ones_are_not() -> None:
    lines = run("stripe_in_fastapi").splitlines()
    assert [line for line in lines if not line.startswith("booked")] == [
        "first: 200 accepted",
        "again: 200 duplicate",
        "another kind: 200 ignored",
        "forged: 401",
        "ledger: {'evt_1': 500}",
    ]
    assert lines.count("booked 500 for evt_1") == 1


def test_pushes_are_built_once_and_in_their_order() -> None:
    lines = run("github_alone").splitlines()
    assert [line for line in lines if line.startswith("built")] == ["built shop at c1", "built shop at c2"]
    assert [line for line in lines if not line.startswith("built")] == [
        "push 1: 200 accepted",
        "push 2: 200 accepted",
        "star: 200 ignored",
        "replayed under another id: duplicate",
    ]


def test_slack_gets_its_challenge_back_and_its_retries_start_nothing() -> None:
    lines = run("slack_challenge").splitlines()
    assert [line for line in lines if not line.startswith("summary")] == [
        "challenge: 200 3eZbrw1a",
        "message: accepted",
        "retry: duplicate",
        "forged: 401",
    ]
    assert lines.count("summary: HELLO") == 1


def test_tenants_have_secrets_of_their_own() -> None:
    lines = run("many_tenants").splitlines()
    assert [line for line in lines if not line.startswith("filed")] == [
        "acme with acme-old: 200",
        "globex with globex-secret: 200",
        "acme with globex-secret: 401",
        "nobody: 401",
        "secrets that were used: acme 2029, globex",
    ]
    assert sorted(line for line in lines if line.startswith("filed")) == [
        "filed o-1 of acme",
        "filed o-1 of globex",
        "filed o-2 of acme",
        "filed o-2 of globex",
    ]
