"""Values and errors to stored text and back, with the same types, and fingerprints of arguments."""

from dbos_events.serialization.codecs import JSON as JSON
from dbos_events.serialization.codecs import Codec as Codec
from dbos_events.serialization.codecs import Codecs as Codecs
from dbos_events.serialization.codecs import Serializer as Serializer
from dbos_events.serialization.codecs import codec_for as codec_for
from dbos_events.serialization.codecs import encoded as encoded
from dbos_events.serialization.codecs import not_storable as not_storable
from dbos_events.serialization.codecs import stored_error as stored_error
from dbos_events.serialization.errors_codec import decode_error as decode_error
from dbos_events.serialization.errors_codec import encode_error as encode_error
from dbos_events.serialization.errors_codec import error_summary as error_summary
from dbos_events.serialization.errors_codec import with_stored_traceback as with_stored_traceback
from dbos_events.serialization.fingerprint import fingerprint as fingerprint
from dbos_events.serialization.json_codec import decode as decode
from dbos_events.serialization.json_codec import encode as encode
