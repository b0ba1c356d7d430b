"""Webhooks: requests that start durable workflows, and requests signed for tests."""

from dbos_events_webhooks import providers as providers
from dbos_events_webhooks.decompressing import Decompress as Decompress
from dbos_events_webhooks.event import WebhookEvent as WebhookEvent
from dbos_events_webhooks.keys import generate_keys as generate_keys
from dbos_events_webhooks.outcome import Answer as Answer
from dbos_events_webhooks.outcome import Outcome as Outcome
from dbos_events_webhooks.outcome import Reason as Reason
from dbos_events_webhooks.outcome import Refused as Refused
from dbos_events_webhooks.outcome import SecretUse as SecretUse
from dbos_events_webhooks.outcome import Verified as Verified
from dbos_events_webhooks.outcome import VerifiedEvent as VerifiedEvent
from dbos_events_webhooks.places import Body as Body
from dbos_events_webhooks.places import BodyHash as BodyHash
from dbos_events_webhooks.places import FirstOf as FirstOf
from dbos_events_webhooks.places import Header as Header
from dbos_events_webhooks.provider import Provider as Provider
from dbos_events_webhooks.receiving.limits import Limits as Limits
from dbos_events_webhooks.receiving.rates import RateLimit as RateLimit
from dbos_events_webhooks.receiving.receiver import WebhookReceiver as WebhookReceiver
from dbos_events_webhooks.request import WebhookRequest as WebhookRequest
from dbos_events_webhooks.secret import Secret as Secret
from dbos_events_webhooks.signature import Stamp as Stamp
